-- How many live contacts have an phone that begins so.
-- Parameters: $1 the beginning, $2 made at or after, $3 made before (NULL: no bound), $4 count no further than this.
-- Relies on idx_contacts_phone.
SELECT count(*)
FROM (
    SELECT FROM contacts
    WHERE deleted_at IS NULL AND phone_number >= $1::text AND phone_number < $1::text || U&'\+10FFFF'
      AND ($2::timestamptz IS NULL OR created_at >= $2) AND ($3::timestamptz IS NULL OR created_at < $3)
    LIMIT $4
) AS counted
