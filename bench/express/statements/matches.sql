-- Contacts that carry either identifier. Parameters: $1 email, $2 phone. Relies on idx_contacts_email, idx_contacts_phone.
SELECT id, linked_id FROM contacts WHERE deleted_at IS NULL AND (email = $1 OR phone_number = $2)
