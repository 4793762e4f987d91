// Fifth step of a projection: ties that name a family taken and that its evidence lacks, or has only once.
// Parameters: $families [{id, version, pairs [[email, phone]]}]; no pairs for a family that is gone.
// Returns the element ids of identifiers that lost an edge, for drop_orphans.
// Relies on index seen_with_family, constraint family_id.
UNWIND $families AS state
MATCH (e)-[tie:SEEN_WITH {family: state.id}]->(p)
WITH state, e, p, collect(tie) AS ties
WITH state, e, p, CASE WHEN [e.value, p.value] IN state.pairs THEN ties[1..] ELSE ties END AS strays
WHERE size(strays) > 0
MATCH (f:Family {id: state.id})
WHERE f.version = state.version
SET e.value = e.value
WITH state, e, p, strays
UNWIND strays AS tie
// Asked again now that the lock is held: a newer family may have taken it in the meantime.
WITH state, e, p, tie
WHERE tie.family = state.id
DELETE tie
WITH e, p
UNWIND [e, p] AS identifier
RETURN collect(DISTINCT elementId(identifier)) AS loose
