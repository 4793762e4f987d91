-- The families of these primaries, the most senior contact first. Parameter: $1 ids int[].
-- Relies on contacts_pkey, idx_contacts_linked_id.
SELECT id, email, phone_number, link_precedence FROM contacts
WHERE deleted_at IS NULL AND (id = ANY ($1::int[]) OR linked_id = ANY ($1::int[]))
ORDER BY created_at, id
