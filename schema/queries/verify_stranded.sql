-- The record's own shape: the next contacts, and those of them whose link leads to no living primary.
-- Parameters: $1 after this id, $2 at most so many. Returns (last id or NULL, stranded ids). Relies on contacts_pkey.
WITH page AS MATERIALIZED (
    SELECT id, linked_id FROM contacts WHERE id > $1 AND deleted_at IS NULL ORDER BY id LIMIT $2
)
SELECT max(id) AS last,
       coalesce(array_agg(id) FILTER (
           WHERE linked_id IS NOT NULL
             AND NOT EXISTS (SELECT FROM contacts AS head
                             WHERE head.id = page.linked_id AND head.linked_id IS NULL AND head.deleted_at IS NULL)
       ), '{}') AS stranded
FROM page
