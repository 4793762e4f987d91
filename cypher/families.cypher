// The families of these keys, by a walk over identifiers and evidence. The walk visits each node once and does not read
// LINKED_TO. VarLengthExpand(Pruning,BFS) keeps the walk linear in the family; naming its path, or asking for more than
// the distinct contacts at its end, would lose that plan.
// Parameters: $given.contacts ids, $given.emails, $given.phones. An identifier starts at a contact that carries it, as in the record.
// Keys whose contacts have the same Family node share a walk. That node only saves walks: a key has an answer if the
// walk met the key's contact.
// Returns one list of [keys [[kind, key, contact id]], version before the walk, heads [[family id, version, size]], members
// that have a family, members [[id, email, phone, micros since 1970]]]. More than one head, a member without a family or a
// version that changed under the walk is a torn read: the version after it is read last.
// Relies on constraints contact_id, email_value, phone_value.
CALL () {
  UNWIND $given.contacts AS key
  MATCH (start:Contact {id: key})
  USING INDEX SEEK start:Contact(id)
  RETURN 'contact' AS kind, key, start
  UNION ALL
  UNWIND $given.emails AS key
  CALL (key) {
    MATCH (e:Email {value: key})<-[:HAS_EMAIL]-(start:Contact)
    USING INDEX SEEK e:Email(value)
    RETURN start LIMIT 1
  }
  RETURN 'email' AS kind, key, start
  UNION ALL
  UNWIND $given.phones AS key
  CALL (key) {
    MATCH (p:Phone {value: key})<-[:HAS_PHONE]-(start:Contact)
    USING INDEX SEEK p:Phone(value)
    RETURN start LIMIT 1
  }
  RETURN 'phone' AS kind, key, start
}
MATCH (start)-[:IN_FAMILY]->(said:Family)
WITH said, collect([kind, key, start.id]) AS keys, head(collect(start)) AS start
WITH keys, start, said.version AS version
CALL (start) {
  // The label is asked for after the walk: in its pattern it could make a planner that knows an empty graph scan contacts
  // and look for a path to each, a plan that never ends once the graph has filled.
  MATCH (start)-[:HAS_EMAIL|HAS_PHONE|SEEN_WITH*0..]-(member)
  WITH DISTINCT member
  WHERE member:Contact
  OPTIONAL MATCH (member)-[:IN_FAMILY]->(family:Family)
  // A family is read once, after its members: to read it with each of them is a sixth of the walk.
  WITH collect(DISTINCT family) AS families, count(family) AS housed,
       collect([member.id, member.email, member.phoneNumber,
                member.createdAt.epochMillis * 1000 + member.createdAt.microsecond % 1000]) AS members
  RETURN [family IN families | [family.id, family.version, family.size]] AS heads, housed, members
}
RETURN collect([keys, version, heads, housed, members])
