-- The next live contacts whose phone begins so, in the order of (phone_number, id).
-- Parameters: $1 the beginning, $2 after this phone, $3 and this id, $4 made at or after, $5 made before (NULL: no bound),
-- $6 at most so many. Returns (id, email, phone_number, created_at, link_precedence). Relies on idx_contacts_phone.
SELECT id, email::text, phone_number::text, created_at, link_precedence
FROM contacts
WHERE deleted_at IS NULL
  AND phone_number >= $1::text AND phone_number < $1::text || U&'\+10FFFF'
  -- The first comparison is what the index understands; the second is the whole truth.
  AND phone_number >= $2::text AND (phone_number, id) > ($2::text, $3::bigint)
  AND ($4::timestamptz IS NULL OR created_at >= $4) AND ($5::timestamptz IS NULL OR created_at < $5)
ORDER BY phone_number, id LIMIT $6
