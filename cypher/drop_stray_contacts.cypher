// Fourth step of a projection: contacts that the graph has in a family taken and the record has not.
// One that is in another family as well only loses its place in this one.
// Parameters: $given.families [{id, version, ids}]; no ids for a family that is gone.
// Returns the element ids of identifiers that lost an edge, for drop_orphans. Relies on constraint family_id.
UNWIND $given.families AS state
MATCH (f:Family {id: state.id})<-[:IN_FAMILY]-(c)
USING INDEX SEEK f:Family(id)
WHERE f.version = state.version AND (c.id IS NULL OR NOT c.id IN state.ids)
WITH DISTINCT f, c
SET c.id = c.id
WITH f, c
// Asked again now that the lock is held: a newer family may have taken it in the meantime.
MATCH (c)-[place:IN_FAMILY]->(f)
WITH c, collect(place) AS places
FOREACH (place IN places | DELETE place)
WITH c
WHERE NOT EXISTS { (c)-[:IN_FAMILY]->() }
OPTIONAL MATCH (c)-[:HAS_EMAIL|HAS_PHONE]->(identifier)
WITH c, collect(identifier) AS identifiers
DETACH DELETE c
WITH identifiers
UNWIND identifiers AS identifier
RETURN collect(DISTINCT elementId(identifier)) AS loose
