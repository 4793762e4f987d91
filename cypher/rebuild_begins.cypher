// Set the mark of a rebuild. The wipe leaves the mark, so the mark shows a rebuild that broke off. Parameters: none.
MERGE (rebuild:Rebuild)
SET rebuild.startedAt = datetime()
