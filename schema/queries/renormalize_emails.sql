-- The next emails that live contacts carry, each once, in order.
-- Parameters: $1 the last one before them, '' at first; $2 at most so many. Relies on idx_contacts_email.
SELECT DISTINCT email FROM contacts WHERE email > $1 AND deleted_at IS NULL ORDER BY email LIMIT $2
