// Repair only: lower versions in the graph that are ahead of the record. No projection could correct them.
// Parameters: $given.families [{id, version, ids, pairs}], read from the record after the graph was read.
// Relies on constraints family_id, contact_id, email_value.
UNWIND $given.families AS state
CALL (state) {
  MATCH (f:Family {id: state.id})
  USING INDEX SEEK f:Family(id)
  SET f.id = state.id
  WITH f, state
  WHERE f.version > state.version
  SET f.version = state.version
}
CALL (state) {
  UNWIND state.ids AS id
  MATCH (c:Contact {id: id})
  USING INDEX SEEK c:Contact(id)
  SET c.id = id
  WITH c, state
  WHERE c.version > state.version
  SET c.version = state.version
}
CALL (state) {
  UNWIND state.pairs AS pair
  MATCH (e:Email {value: pair[0]})
  USING INDEX SEEK e:Email(value)
  SET e.value = pair[0]
  WITH e, state, pair
  MATCH (e)-[tie:SEEN_WITH]->(p)
  WHERE p.value = pair[1] AND tie.version > state.version
  SET tie.version = state.version
}
