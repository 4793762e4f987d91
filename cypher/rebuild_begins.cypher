// The mark of a rebuild. It outlives the wipe, so that a rebuild that breaks off is known as one. Parameters: none.
MERGE (rebuild:Rebuild)
SET rebuild.startedAt = datetime()
