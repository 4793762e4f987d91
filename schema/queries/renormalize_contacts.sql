-- The live contacts that carry one of these identifiers. An email has an @ and a phone has none, so that one list holds both.
-- Parameters: $1 emails or phones. Returns (id, email, phone). Relies on idx_contacts_email, idx_contacts_phone.
SELECT id, email, phone_number FROM contacts WHERE email = ANY ($1::text[]) AND deleted_at IS NULL
UNION
SELECT id, email, phone_number FROM contacts WHERE phone_number = ANY ($1::text[]) AND deleted_at IS NULL
ORDER BY 1
