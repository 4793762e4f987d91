// A family to look at in Neo4j Browser: its contacts and what they carry. Browser adds the ties between those itself.
// Parameters: $id of the family. Relies on constraint family_id.
MATCH p = (:Family {id: $id})<-[:IN_FAMILY]-(:Contact)-[:HAS_EMAIL|HAS_PHONE]->() RETURN p
