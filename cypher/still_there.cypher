// Which of these does the graph still show? Parameters: $contacts and $families, ids; tombstones do not count.
// Returns two lists of ids. Relies on constraints contact_id, family_id.
CALL () {
  UNWIND $contacts AS id
  MATCH (c:Contact {id: id})
  RETURN collect(id) AS contacts
}
CALL () {
  UNWIND $families AS id
  MATCH (f:Family {id: id})
  WHERE NOT f:Tombstone
  RETURN collect(id) AS families
}
RETURN contacts, families
