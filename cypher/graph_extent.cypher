// How much the graph holds: families, tombstones among them, and since when a rebuild is under way or broken off.
// Parameters: none. Returns one row: families, rebuilding (a time, or null). Counts come from the count store.
CALL () {
  MATCH (family:Family)
  RETURN count(family) AS families
}
OPTIONAL MATCH (rebuild:Rebuild)
RETURN families, min(rebuild.startedAt) AS rebuilding
