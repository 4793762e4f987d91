// The constraints and indexes that every other statement relies on: one node for each contact, identifier and family,
// and an index of ties by family. MERGE without the constraints makes duplicates. Idempotent; statements are separated
// by semicolons, one transaction each.
// Parameters: none.
CREATE CONSTRAINT contact_id IF NOT EXISTS FOR (c:Contact) REQUIRE c.id IS UNIQUE;
CREATE CONSTRAINT email_value IF NOT EXISTS FOR (e:Email) REQUIRE e.value IS UNIQUE;
CREATE CONSTRAINT phone_value IF NOT EXISTS FOR (p:Phone) REQUIRE p.value IS UNIQUE;
CREATE CONSTRAINT family_id IF NOT EXISTS FOR (f:Family) REQUIRE f.id IS UNIQUE;
CREATE INDEX seen_with_family IF NOT EXISTS FOR ()-[s:SEEN_WITH]-() ON (s.family);
