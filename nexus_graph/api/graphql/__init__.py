"""GraphQL, in three rooms: `schema` is what clients see, `engine` executes requests, `transport` carries them.

Imports lead from transport to engine to schema, and through the door of each room: the names that its `__init__` lists.
"""
