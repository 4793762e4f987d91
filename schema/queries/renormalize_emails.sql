-- The next emails that live contacts or evidence carry, each once, in order.
-- Parameters: $1 the last one before them, '' at first; $2 at most so many. Relies on idx_contacts_email, evidence_email.
(SELECT DISTINCT email FROM contacts WHERE email > $1 AND deleted_at IS NULL ORDER BY email LIMIT $2)
UNION
(SELECT DISTINCT email FROM evidence WHERE email > $1 ORDER BY email LIMIT $2)
ORDER BY email LIMIT $2
