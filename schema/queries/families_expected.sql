-- How many families the graph must hold at the least: those of the record, but for those that the relay has still to bring.
-- Parameters: $1 how far to count. Returns (families, pending). Where the outbox holds $1 rows or more, the families that
-- wait cannot be counted, and pending is all of them. Relies on idx_contacts_precedence, outbox_pkey.
WITH counted AS (
    SELECT FROM contacts WHERE link_precedence = 'primary' AND deleted_at IS NULL LIMIT $1
), waiting AS (
    SELECT family_id FROM outbox LIMIT $1
)
SELECT (SELECT count(*) FROM counted) AS families,
       (SELECT CASE WHEN count(*) < $1 THEN count(DISTINCT family_id) ELSE $1 END FROM waiting) AS pending
