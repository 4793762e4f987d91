// Nodes and edges that no family of the graph accounts for: identifiers without an edge, ties of no living family, and
// nodes without an id. Reads each node and tie once.
// Parameters: $given.limit, at most so many of each kind. Returns three lists of element ids.
// Relies on constraint family_id.
CALL () {
  MATCH (identifier:Email|Phone)
  WHERE NOT EXISTS { (identifier)<-[:HAS_EMAIL|HAS_PHONE]-() } AND NOT EXISTS { (identifier)-[:SEEN_WITH]-() }
  WITH identifier LIMIT $given.limit
  RETURN collect(elementId(identifier)) AS identifiers
}
CALL () {
  MATCH (e)-[tie:SEEN_WITH]->(p)
  WHERE NOT (e:Email AND p:Phone AND EXISTS {
    MATCH (f:Family {id: tie.family})
    USING INDEX SEEK f:Family(id)
    WHERE NOT f:Tombstone
  })
  WITH tie LIMIT $given.limit
  RETURN collect(elementId(tie)) AS ties
}
CALL () {
  MATCH (node:Contact|Family)
  WHERE NOT node.id IS :: INTEGER NOT NULL
  WITH node LIMIT $given.limit
  RETURN collect(elementId(node)) AS nameless
}
RETURN identifiers, ties, nameless
