-- These primaries and their secondaries follow another primary. Parameters: $1 its id, $2 their ids int[].
-- Relies on contacts_pkey, idx_contacts_linked_id.
UPDATE contacts SET linked_id = $1, link_precedence = 'secondary', updated_at = CURRENT_TIMESTAMP
WHERE deleted_at IS NULL AND (id = ANY ($2::int[]) OR linked_id = ANY ($2::int[]))
