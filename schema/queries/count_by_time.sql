-- How many live contacts were made between $1 (or then) and $2, counted no further than $3. Relies on contacts_made.
SELECT count(*)
FROM (SELECT FROM contacts WHERE deleted_at IS NULL AND created_at >= $1 AND created_at < $2 LIMIT $3) AS counted
