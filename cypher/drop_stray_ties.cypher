// Fifth step of a projection: ties that name a family taken and that its evidence lacks, or has only once.
// Parameters: $given.families [{id, version, pairs [[email, phone]]}]; no pairs for a family that is gone.
// Returns the element ids of identifiers that lost an edge, for drop_orphans.
// Relies on index seen_with_family, constraint family_id.
UNWIND $given.families AS state
MATCH (e)-[seen:SEEN_WITH {family: state.id}]->(p)
USING INDEX SEEK seen:SEEN_WITH(family)
WITH state.id AS family, state.version AS version, e, p,
     CASE WHEN [e.value, p.value] IN state.pairs THEN 1 ELSE 0 END AS wanted, count(seen) AS ties
WHERE ties > wanted
MATCH (f:Family {id: family})
USING INDEX SEEK f:Family(id)
WHERE f.version = version
SET e.value = e.value
WITH DISTINCT family, e, p, wanted
// Asked again now that the lock is held: a newer family may have taken it in the meantime.
MATCH (e)-[seen:SEEN_WITH]->(p)
WITH e, p, family, wanted, collect(seen) AS found
WITH e, p, [tie IN found WHERE tie.family = family][wanted..] AS strays
FOREACH (tie IN strays | DELETE tie)
WITH e, p
UNWIND [e, p] AS identifier
RETURN collect(DISTINCT elementId(identifier)) AS loose
