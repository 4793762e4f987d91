// Second step of a projection: the contacts of the families taken, their properties, and exactly their edges.
// A contact carries the version of its family's newest state: an older state of a family it has left, and may have come
// back from, does not take it away. Edges that are right already are not touched; if one is wrong, all of that contact's
// are made anew.
// Parameters: $given.families [{id, version, ids, emails, phones, micros}], the primary first; the lists are parallel.
// Returns the element ids of identifiers that lost an edge, for drop_orphans.
// Relies on constraints family_id, contact_id, email_value, phone_value. The hint, here and elsewhere: a planner that
// knows a graph of a few hundred nodes takes a scan to be cheaper than a seek, and keeps that plan while the graph grows.
UNWIND $given.families AS state
MATCH (f:Family {id: state.id})
USING INDEX SEEK f:Family(id)
WHERE f.version = state.version
UNWIND range(0, size(state.ids) - 1) AS place
// Only what a contact needs goes on: a row that kept its state would be counted as large as its whole family.
WITH f, state.version AS version, state.ids[0] AS primary, place > 0 AS secondary, state.ids[place] AS id,
     state.emails[place] AS email, state.phones[place] AS phone, state.micros[place] AS micros
MERGE (c:Contact {id: id})
// The write lock, before the comparison.
SET c.id = id
WITH f, c, version, primary, secondary, email, phone, micros, (micros % 1000000 + 1000000) % 1000000 AS fraction
WHERE coalesce(c.version, -1) <= version
SET c.version = version, c.email = email, c.phoneNumber = phone,
    c.linkPrecedence = CASE WHEN secondary THEN 'secondary' ELSE 'primary' END,
    c.createdAt = datetime.fromEpoch((micros - fraction) / 1000000, fraction * 1000)
WITH f, c, primary, secondary, email, phone
CALL (f, c, primary, secondary, email, phone) {
  MATCH (c)-[edge:IN_FAMILY|LINKED_TO|HAS_EMAIL|HAS_PHONE]->(end)
  RETURN collect(edge) AS edges,
         count(DISTINCT CASE
           WHEN CASE type(edge)
             WHEN 'IN_FAMILY' THEN end = f
             WHEN 'LINKED_TO' THEN secondary AND end:Contact AND end.id = primary
             WHEN 'HAS_EMAIL' THEN end:Email AND end.value = email
             ELSE end:Phone AND end.value = phone
           END THEN type(edge)
         END) AS right,
         collect(CASE WHEN end:Email OR end:Phone THEN end END) AS identifiers
}
WITH f, c, primary, secondary, email, phone, edges, right, identifiers,
     1 + CASE WHEN secondary THEN 1 ELSE 0 END
       + CASE WHEN email IS NULL THEN 0 ELSE 1 END
       + CASE WHEN phone IS NULL THEN 0 ELSE 1 END AS wanted
WHERE size(edges) <> wanted OR right <> wanted
FOREACH (edge IN edges | DELETE edge)
CREATE (c)-[:IN_FAMILY]->(f)
FOREACH (id IN CASE WHEN secondary THEN [primary] ELSE [] END |
  MERGE (head:Contact {id: id})
  CREATE (c)-[:LINKED_TO]->(head))
FOREACH (value IN CASE WHEN email IS NULL THEN [] ELSE [email] END |
  MERGE (e:Email {value: value})
  CREATE (c)-[:HAS_EMAIL]->(e))
FOREACH (value IN CASE WHEN phone IS NULL THEN [] ELSE [phone] END |
  MERGE (p:Phone {value: value})
  CREATE (c)-[:HAS_PHONE]->(p))
WITH identifiers
UNWIND identifiers AS identifier
RETURN collect(DISTINCT elementId(identifier)) AS loose
