// Remove the mark of a rebuild: the graph is whole again. Parameters: none.
MATCH (rebuild:Rebuild)
DELETE rebuild
