-- The next phones that live contacts carry, each once, in order.
-- Parameters: $1 the last one before them, '' at first; $2 at most so many. Relies on idx_contacts_phone.
SELECT DISTINCT phone_number FROM contacts WHERE phone_number > $1 AND deleted_at IS NULL ORDER BY phone_number LIMIT $2
