// A family to look at in Neo4j Browser: its contacts and what they carry. Browser itself adds what ties those to one
// another: LINKED_TO between contacts, SEEN_WITH between an email and a phone.
// Parameters: $id of the family. Relies on constraint family_id.
MATCH (:Family {id: $id})<-[:IN_FAMILY]-(c)-[:HAS_EMAIL|HAS_PHONE]->(i) RETURN c, i
