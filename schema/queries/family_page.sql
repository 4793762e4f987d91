-- The next family ids in order, those that are gone as well: contacts that lead or led a family, and aliases.
-- Parameters: $1 after this id, $2 at most so many families, $3 stop past so many contacts and evidence rows.
-- Returns at least one id if there is any. Relies on contacts_pkey, aliases_pkey, idx_contacts_linked_id, evidence_family.
WITH page AS MATERIALIZED (
    SELECT id FROM (
        (SELECT id FROM contacts WHERE id > $1 AND linked_id IS NULL ORDER BY id LIMIT $2)
        UNION
        (SELECT family_id FROM aliases WHERE family_id > $1 ORDER BY family_id LIMIT $2)
    ) AS found
    ORDER BY id LIMIT $2
), weighed AS MATERIALIZED (
    SELECT id, (SELECT count(*) FROM contacts WHERE linked_id = page.id AND deleted_at IS NULL)
             + (SELECT count(*) FROM evidence WHERE family_id = page.id) + 1 AS weight
    FROM page
), summed AS (
    SELECT id, sum(weight) OVER (ORDER BY id) - weight AS before FROM weighed
)
SELECT id FROM summed WHERE before < $3 ORDER BY id
