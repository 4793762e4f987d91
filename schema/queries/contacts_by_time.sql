-- The next live contacts, in the order in which they were made.
-- Parameters: $1 made at or after, $2 made before; $3, $4 after this place (created_at, id); $5 at most so many.
-- Returns what contacts_by_email returns. Relies on contacts_made.
SELECT id, email::text, phone_number::text, created_at, link_precedence, coalesce(linked_id, id)
FROM contacts
WHERE deleted_at IS NULL AND created_at >= $1 AND created_at < $2 AND (created_at, id) > ($3::timestamptz, $4::bigint)
ORDER BY created_at, id LIMIT $5
