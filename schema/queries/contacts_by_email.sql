-- The next live contacts whose email begins so, in the order of (email, id).
-- Parameters: $1 the beginning, $2 made at or after, $3 made before (NULL: no bound), $4 after this email, $5 and
-- this id, $6 at most so many. Returns (id, email, phone_number, created_at, link_precedence, family's id).
-- Relies on idx_contacts_email.
SELECT id, email::text, phone_number::text, created_at, link_precedence, coalesce(linked_id, id)
FROM contacts
WHERE deleted_at IS NULL
  AND email >= $1::text AND email < $1::text || U&'\+10FFFF'
  -- The first comparison is what the index understands; the second is the whole truth.
  AND email >= $4::text AND (email, id) > ($4::text, $5::bigint)
  AND ($2::timestamptz IS NULL OR created_at >= $2) AND ($3::timestamptz IS NULL OR created_at < $3)
ORDER BY email, id LIMIT $6
