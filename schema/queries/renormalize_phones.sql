-- The next phones that live contacts or evidence carry, each once, in order.
-- Parameters: $1 the last one before them, '' at first; $2 at most so many. Relies on idx_contacts_phone, evidence_phone.
(SELECT DISTINCT phone_number FROM contacts WHERE phone_number > $1 AND deleted_at IS NULL ORDER BY phone_number LIMIT $2)
UNION
(SELECT DISTINCT phone_number FROM evidence WHERE phone_number > $1 ORDER BY phone_number LIMIT $2)
ORDER BY phone_number LIMIT $2
