-- How senior and how large these families are, as family_size says it for one. Ask holding the write lock.
-- Parameters: $1 family ids, $2 count no further than this many secondaries.
-- Returns (id, created_at of the primary, whether the primary lacks an identifier, contacts).
-- Relies on contacts_pkey, idx_contacts_linked_id.
SELECT head.id, head.created_at, head.email IS NULL OR head.phone_number IS NULL,
       (SELECT 1 + count(*)
        FROM (SELECT FROM contacts WHERE linked_id = head.id AND deleted_at IS NULL LIMIT $2::integer) AS counted)
FROM contacts AS head WHERE head.id = ANY ($1::bigint[])
