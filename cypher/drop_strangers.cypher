// Repair only: delete nodes and edges that the record does not have.
// Parameters: $given.contacts and $given.families, ids; $given.nodes and $given.ties, element ids.
// Returns the element ids of identifiers that lost an edge, for drop_orphans. Relies on constraints contact_id, family_id.
CALL () {
  UNWIND $given.contacts AS id
  MATCH (c:Contact {id: id})
  USING INDEX SEEK c:Contact(id)
  RETURN collect(c) AS contacts
}
CALL () {
  UNWIND $given.families AS id
  MATCH (f:Family {id: id})
  USING INDEX SEEK f:Family(id)
  RETURN collect(f) AS families
}
CALL () {
  UNWIND $given.nodes AS id
  MATCH (node)
  WHERE elementId(node) = id
  RETURN collect(node) AS nodes
}
CALL () {
  UNWIND $given.ties AS id
  MATCH (e)-[tie]->(p)
  WHERE elementId(tie) = id
  RETURN collect(tie) AS ties, collect(e) + collect(p) AS ends
}
WITH contacts + families + nodes AS strangers, ties, ends
CALL (strangers) {
  UNWIND strangers AS stranger
  MATCH (stranger)-[:HAS_EMAIL|HAS_PHONE]->(identifier)
  RETURN collect(identifier) AS identifiers
}
FOREACH (tie IN ties | DELETE tie)
FOREACH (stranger IN strangers | DETACH DELETE stranger)
WITH ends + identifiers AS loose, strangers
UNWIND loose AS identifier
WITH DISTINCT identifier, strangers
WHERE NOT identifier IN strangers
RETURN collect(elementId(identifier)) AS loose
