-- How senior and how large these families are. Ask holding the write lock.
-- Parameters: $1 family ids, $2 count no further than this many contacts and one.
-- Returns (id, created_at of the primary, whether the primary lacks an identifier, contacts).
-- Relies on contacts_pkey, idx_contacts_linked_id.
SELECT id, created_at, email IS NULL OR phone_number IS NULL, family_size(id, $2)
FROM contacts WHERE id = ANY ($1::bigint[])
