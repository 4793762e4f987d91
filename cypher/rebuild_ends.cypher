// The graph is whole again. Parameters: none.
MATCH (rebuild:Rebuild)
DELETE rebuild
