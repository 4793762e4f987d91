"""Neo4j, the disposable copy of the record: one projection writes it, traversals read it, verify compares it."""
