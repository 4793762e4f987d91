"""GraphQL: Strawberry declares the schema, graphql-core executes it, and our own view answers over HTTP."""
