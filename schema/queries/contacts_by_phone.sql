-- The next live contacts whose phone begins so, in the order of (phone_number, id).
-- Parameters: $1 the beginning, $2 made at or after, $3 made before (NULL: no bound), $4 after this phone, $5 and
-- this id, $6 at most so many. Returns (id, email, phone_number, created_at, link_precedence, family's id).
-- Relies on idx_contacts_phone.
SELECT id, email::text, phone_number::text, created_at, link_precedence, coalesce(linked_id, id)
FROM contacts
WHERE deleted_at IS NULL
  AND phone_number >= $1::text AND phone_number < $1::text || U&'\+10FFFF'
  -- The first comparison is what the index understands; the second is the whole truth.
  AND phone_number >= $4::text AND (phone_number, id) > ($4::text, $5::bigint)
  AND ($2::timestamptz IS NULL OR created_at >= $2) AND ($3::timestamptz IS NULL OR created_at < $3)
ORDER BY phone_number, id LIMIT $6
