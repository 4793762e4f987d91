// The contacts and families of these that the graph still has. Parameters: $given.contacts and $given.families, ids;
// tombstones do not count.
// Returns two lists of ids. Relies on constraints contact_id, family_id.
CALL () {
  UNWIND $given.contacts AS id
  MATCH (c:Contact {id: id})
  USING INDEX SEEK c:Contact(id)
  RETURN collect(id) AS contacts
}
CALL () {
  UNWIND $given.families AS id
  MATCH (f:Family {id: id})
  USING INDEX SEEK f:Family(id)
  WHERE NOT f:Tombstone
  RETURN collect(id) AS families
}
RETURN contacts, families
