-- The next phones of the evidence that no live contact carries, each once, in order.
-- Parameters: $1 the last one before them, '' at first; $2 at most so many. Relies on evidence_phone, idx_contacts_phone.
SELECT DISTINCT phone_number FROM evidence AS tie
WHERE phone_number > $1
  AND NOT EXISTS (SELECT FROM contacts WHERE contacts.phone_number = tie.phone_number AND deleted_at IS NULL)
ORDER BY phone_number LIMIT $2
