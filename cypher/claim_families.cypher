// First step of a projection: lock the families, compare versions, and take those that are not newer already.
// A family the record no longer has becomes a tombstone: its id and version, so that no older state revives it.
// Parameters: $given.families [{id, version, live, size}], sorted by id.
// Returns one list of [id, version, size] of those taken, as the graph showed them before: no version for one that it did
// not know, no size for one that was gone. Until the end of the transaction nobody else writes a family taken.
// Relies on constraint family_id.
UNWIND $given.families AS state
MERGE (f:Family {id: state.id})
// Changes nothing and takes the node's write lock, which whoever makes it has: compared before it is held, a version may be
// stale (docs/adr/0002).
ON MATCH SET f.id = state.id
WITH f, state
WHERE coalesce(f.version, -1) <= state.version
WITH f, state, [f.id, f.version, f.size] AS shown
SET f.version = state.version, f.size = CASE WHEN state.live THEN state.size END
FOREACH (_ IN CASE WHEN state.live THEN [1] ELSE [] END | REMOVE f:Tombstone)
FOREACH (_ IN CASE WHEN state.live THEN [] ELSE [1] END | SET f:Tombstone)
RETURN collect(shown) AS taken
