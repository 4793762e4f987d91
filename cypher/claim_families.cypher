// First step of a projection: lock the families, compare versions, and take the families whose version in the graph is
// not newer. A family that the record no longer has becomes a tombstone, its id and version, so that no older state
// revives the family.
// Parameters: $given.families [{id, version, live, size}], sorted by id.
// Returns one list of [id, version, size] of the families taken, as the graph had them before: version null for a new
// family, size null for a tombstone. Until the transaction ends no other writer can write a family taken.
// Relies on constraint family_id.
UNWIND $given.families AS state
MERGE (f:Family {id: state.id})
// This SET changes nothing and takes the node's write lock, which a transaction that creates the node has already. A
// version that is compared without the lock may be stale (docs/adr/0002).
ON MATCH SET f.id = state.id
WITH f, state
WHERE coalesce(f.version, -1) <= state.version
WITH f, state, [f.id, f.version, f.size] AS shown
SET f.version = state.version, f.size = CASE WHEN state.live THEN state.size END
FOREACH (_ IN CASE WHEN state.live THEN [1] ELSE [] END | REMOVE f:Tombstone)
FOREACH (_ IN CASE WHEN state.live THEN [] ELSE [1] END | SET f:Tombstone)
RETURN collect(shown) AS taken
