-- The next emails of the evidence that no live contact carries, each once, in order.
-- Parameters: $1 the last one before them, '' at first; $2 at most so many. Relies on evidence_email, idx_contacts_email.
SELECT DISTINCT email FROM evidence AS tie
WHERE email > $1 AND NOT EXISTS (SELECT FROM contacts WHERE contacts.email = tie.email AND deleted_at IS NULL)
ORDER BY email LIMIT $2
