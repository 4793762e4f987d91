// For each of these families: its node, the result of a walk from its primary, and its ties. The statement itself
// compares a contact's edges with the contact's properties and the family, so that the answer names each value once.
// Parameters: $given.families [[id, live]].
// Returns one list of [id, version, size, tombstone, residents, members, ties]: version and tombstone are null where there
// is no such node; residents counts edges into it; members [[id, email, phone, precedence, micros, version right, edges right]];
// ties [[email, phone, micros, request, version right]].
// Relies on constraints contact_id, family_id, index seen_with_family.
UNWIND $given.families AS asked
OPTIONAL MATCH (f:Family {id: asked[0]})
USING INDEX SEEK f:Family(id)
// Walk only living families: the former primary of a merged family belongs to another family.
OPTIONAL MATCH (start:Contact {id: CASE WHEN asked[1] THEN asked[0] END})
USING INDEX SEEK start:Contact(id)
CALL (asked, f, start) {
  // The label is asked for after the walk. In its pattern it makes the planner, while the graph is empty, scan contacts
  // and look for a path to each: a plan that never ends once the graph has filled.
  MATCH (start)-[:HAS_EMAIL|HAS_PHONE|SEEN_WITH*0..]-(member)
  WITH DISTINCT asked, f, member
  WHERE member:Contact
  CALL (asked, f, member) {
    MATCH (member)-[edge:IN_FAMILY|LINKED_TO|HAS_EMAIL|HAS_PHONE]->(end)
    RETURN count(edge) AS edges,
           count(DISTINCT CASE
             WHEN CASE type(edge)
               WHEN 'IN_FAMILY' THEN end = f
               WHEN 'LINKED_TO' THEN member.id <> asked[0] AND end:Contact AND end.id = asked[0]
               WHEN 'HAS_EMAIL' THEN end:Email AND end.value = member.email
               ELSE end:Phone AND end.value = member.phoneNumber
             END THEN type(edge)
           END) AS right
  }
  WITH member, edges, right,
       1 + CASE WHEN member.id = asked[0] THEN 0 ELSE 1 END
         + CASE WHEN member.email IS NULL THEN 0 ELSE 1 END
         + CASE WHEN member.phoneNumber IS NULL THEN 0 ELSE 1 END AS wanted
  RETURN collect([member.id, member.email, member.phoneNumber, member.linkPrecedence,
                  member.createdAt.epochMillis * 1000 + member.createdAt.microsecond % 1000,
                  coalesce(member.version <= f.version, false), edges = wanted AND right = wanted]) AS members
}
CALL (asked, f) {
  MATCH (e)-[tie:SEEN_WITH {family: asked[0]}]->(p)
  USING INDEX SEEK tie:SEEN_WITH(family)
  RETURN collect([e.value, p.value, tie.at.epochMillis * 1000 + tie.at.microsecond % 1000, tie.request,
                  coalesce(tie.version <= f.version, false)]) AS ties
}
RETURN collect([asked[0], f.version, f.size, f:Tombstone, COUNT { (f)<-[:IN_FAMILY]-() }, members, ties])
