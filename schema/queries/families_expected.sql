-- How many families the graph must hold at the least: those of the record, but for those that the relay has still to bring.
-- Parameters: $1 how far to count. Returns (families, pending). Relies on idx_contacts_precedence, outbox_pkey.
SELECT (SELECT count(*) FROM (SELECT FROM contacts
                              WHERE link_precedence = 'primary' AND deleted_at IS NULL LIMIT $1) AS counted) AS families,
       (SELECT count(DISTINCT family_id) FROM (SELECT family_id FROM outbox LIMIT $1) AS waiting) AS pending
