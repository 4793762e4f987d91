"""Neo4j, the disposable picture of the record: made by one projection, read by traversal, held against the record."""
