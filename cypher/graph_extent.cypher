// How much the graph holds: the nodes of families, the tombstones among them, and since when a rebuild has been under way
// or broken off. Parameters: none. Returns one row: families, tombstones, rebuilding (a time, or null). Both counts come
// from the count store.
CALL () {
  MATCH (family:Family)
  RETURN count(family) AS families
}
CALL () {
  MATCH (tombstone:Tombstone)
  RETURN count(tombstone) AS tombstones
}
OPTIONAL MATCH (rebuild:Rebuild)
RETURN families, tombstones, min(rebuild.startedAt) AS rebuilding
