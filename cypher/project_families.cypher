// Second step of a projection, for families that the first step took and locked: write contacts, then ties, then delete
// what the graph has in a family and the record has not, then identifiers without an edge. All is one statement, as a
// statement costs as much as several families. Additions come before deletions, so that a survivor has its new contacts
// before the merged family is emptied. Every node is locked before it is read: a newer family may have taken the node
// meanwhile.
// Parameters: $given.contacts [{id, version, ids, emails, phones, micros}], $given.ties [{id, version, pairs [[email, phone]],
// tie_micros, tie_requests}]: families by id, with those of their contacts and ties that are to be written; the lists are
// parallel. $given.swept [{id, ids, pairs}]: families to be swept, with all that they have; nothing for one that is gone.
// Relies on constraints family_id, contact_id, email_value, phone_value, index seen_with_family. The hints, here and
// elsewhere: a planner that knows a graph of a few hundred nodes takes a scan to be cheaper than a seek, and keeps that plan
// while the graph grows.

// Contacts: their properties, and exactly their edges. A contact carries the version of the state that wrote it, so an
// older state of another family does not take the contact away. Edges that are right are not touched. If one edge to a
// family or a primary is wrong, all of these are made again; so are all edges to identifiers.
CALL () {
  UNWIND $given.contacts AS state
  MATCH (f:Family {id: state.id})
  USING INDEX SEEK f:Family(id)
  UNWIND range(0, size(state.ids) - 1) AS place
  // Only what a contact needs goes on: a row that kept its state would be counted as large as its whole family.
  WITH f, state.version AS version, state.id AS primary, state.ids[place] <> state.id AS secondary,
       state.ids[place] AS id, state.emails[place] AS email, state.phones[place] AS phone, state.micros[place] AS micros
  MERGE (c:Contact {id: id})
  // The write lock, before the comparison.
  ON MATCH SET c.id = id
  WITH f, c, version, primary, secondary, email, phone, micros, (micros % 1000000 + 1000000) % 1000000 AS fraction
  WHERE coalesce(c.version, -1) <= version
  SET c.version = version, c.email = email, c.phoneNumber = phone,
      c.linkPrecedence = CASE WHEN secondary THEN 'secondary' ELSE 'primary' END,
      c.createdAt = datetime.fromEpoch((micros - fraction) / 1000000, fraction * 1000)
  WITH f, c, primary, secondary, email, phone
  CALL (f, c, primary, secondary) {
    MATCH (c)-[edge:IN_FAMILY|LINKED_TO]->(end)
    RETURN collect(edge) AS places,
           count(DISTINCT CASE
             WHEN CASE type(edge)
               WHEN 'IN_FAMILY' THEN end = f
               ELSE secondary AND end:Contact AND end.id = primary
             END THEN type(edge)
           END) AS right
  }
  WITH f, c, primary, secondary, email, phone, places, right, CASE WHEN secondary THEN 2 ELSE 1 END AS wanted
  WITH f, c, primary, secondary, email, phone, places, size(places) <> wanted OR right <> wanted AS misplaced
  FOREACH (edge IN CASE WHEN misplaced THEN places ELSE [] END | DELETE edge)
  FOREACH (_ IN CASE WHEN misplaced THEN [1] ELSE [] END | CREATE (c)-[:IN_FAMILY]->(f))
  WITH c, primary, email, phone, misplaced AND secondary AS unlinked
  CALL (c, primary, unlinked) {
    WITH c, primary
    WHERE unlinked
    // Not there if newer states took it to another family, where it was deleted: this one is to be buried yet.
    MATCH (head:Contact {id: primary})
    USING INDEX SEEK head:Contact(id)
    CREATE (c)-[:LINKED_TO]->(head)
  }
  WITH c, email, phone
  CALL (c, email, phone) {
    MATCH (c)-[edge:HAS_EMAIL|HAS_PHONE]->(end)
    RETURN collect(edge) AS edges,
           count(DISTINCT CASE
             WHEN CASE type(edge)
               WHEN 'HAS_EMAIL' THEN end:Email AND end.value = email
               ELSE end:Phone AND end.value = phone
             END THEN type(edge)
           END) AS right,
           collect(CASE WHEN end:Email OR end:Phone THEN end END) AS identifiers
  }
  WITH c, email, phone, edges, right, identifiers,
       CASE WHEN email IS NULL THEN 0 ELSE 1 END + CASE WHEN phone IS NULL THEN 0 ELSE 1 END AS wanted
  WHERE size(edges) <> wanted OR right <> wanted
  FOREACH (edge IN edges | DELETE edge)
  FOREACH (value IN CASE WHEN email IS NULL THEN [] ELSE [email] END |
    MERGE (e:Email {value: value})
    CREATE (c)-[:HAS_EMAIL]->(e))
  FOREACH (value IN CASE WHEN phone IS NULL THEN [] ELSE [phone] END |
    MERGE (p:Phone {value: value})
    CREATE (c)-[:HAS_PHONE]->(p))
  WITH identifiers
  UNWIND identifiers AS identifier
  RETURN collect(DISTINCT identifier) AS left
}

// Ties: the evidence, as edges from email to phone. A tie carries its family and the version of the state that wrote
// it, so an older state of another family does not take the tie away.
CALL () {
  UNWIND $given.ties AS state
  UNWIND range(0, size(state.pairs) - 1) AS place
  WITH state.id AS family, state.version AS version, state.pairs[place][0] AS email, state.pairs[place][1] AS phone,
       state.tie_micros[place] AS micros, state.tie_requests[place] AS request
  MERGE (e:Email {value: email})
  // The write lock of all ties of this email, before the comparison.
  ON MATCH SET e.value = email
  MERGE (p:Phone {value: phone})
  MERGE (e)-[tie:SEEN_WITH]->(p)
  WITH tie, family, version, micros, request, (micros % 1000000 + 1000000) % 1000000 AS fraction
  WHERE coalesce(tie.version, -1) <= version
  SET tie.version = version, tie.family = family, tie.request = request,
      tie.at = datetime.fromEpoch((micros - fraction) / 1000000, fraction * 1000)
}

// Stray contacts. A contact that another family has as well loses only its edge to this family.
CALL () {
  UNWIND $given.swept AS state
  MATCH (f:Family {id: state.id})<-[:IN_FAMILY]-(stray)
  USING INDEX SEEK f:Family(id)
  WHERE stray.id IS NULL OR NOT stray.id IN state.ids
  WITH DISTINCT f, stray
  SET stray.id = stray.id
  WITH f, stray
  MATCH (stray)-[place:IN_FAMILY]->(f)
  WITH stray, collect(place) AS places
  FOREACH (place IN places | DELETE place)
  WITH stray
  WHERE NOT EXISTS { (stray)-[:IN_FAMILY]->() }
  OPTIONAL MATCH (stray)-[:HAS_EMAIL|HAS_PHONE]->(identifier)
  WITH stray, collect(identifier) AS identifiers
  DETACH DELETE stray
  WITH identifiers
  UNWIND identifiers AS identifier
  RETURN collect(DISTINCT identifier) AS left_by_strays
}

// Stray ties: ties that name a family whose evidence lacks them, and duplicates.
CALL () {
  UNWIND $given.swept AS state
  MATCH (a)-[seen:SEEN_WITH {family: state.id}]->(b)
  USING INDEX SEEK seen:SEEN_WITH(family)
  WITH state.id AS family, a, b,
       CASE WHEN [a.value, b.value] IN state.pairs THEN 1 ELSE 0 END AS wanted, count(seen) AS ties
  WHERE ties > wanted
  SET a.value = a.value
  WITH DISTINCT family, a, b, wanted
  MATCH (a)-[seen:SEEN_WITH]->(b)
  WITH a, b, family, wanted, collect(seen) AS found
  WITH a, b, [tie IN found WHERE tie.family = family][wanted..] AS strays
  FOREACH (tie IN strays | DELETE tie)
  WITH a, b
  UNWIND [a, b] AS identifier
  RETURN collect(DISTINCT identifier) AS untied
}

// Identifiers without an edge.
UNWIND left + left_by_strays + untied AS identifier
WITH DISTINCT identifier
// Take the write lock: a transaction that ties the identifier meanwhile waits, or its edge is visible.
SET identifier.value = identifier.value
WITH identifier
WHERE NOT EXISTS { (identifier)--() }
DELETE identifier
