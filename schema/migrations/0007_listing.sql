-- Contacts listed by what their email or phone begins with, and by time.

-- Identifiers are compared by their code points, whatever language the database was made for: then the indexes that find
-- an identifier also find all that begin alike, and every comparison is the cheapest there is.
ALTER TABLE contacts ALTER COLUMN email TYPE varchar(255) COLLATE "C",
                     ALTER COLUMN phone_number TYPE varchar(20) COLLATE "C";

CREATE INDEX contacts_made ON contacts (created_at, id) WHERE deleted_at IS NULL;
