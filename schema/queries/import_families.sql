-- How senior and how large these families are. Ask holding the write lock.
-- Parameters: $1 family ids, $2 count no further than this many secondaries.
-- Returns (id, created_at of the primary, whether the primary lacks an identifier, contacts).
-- Relies on contacts_pkey, idx_contacts_linked_id.
SELECT head.id, head.created_at, head.email IS NULL OR head.phone_number IS NULL, size.contacts
FROM contacts AS head
CROSS JOIN LATERAL family_size(head.id, $2::integer) AS size
WHERE head.id = ANY ($1::bigint[])
