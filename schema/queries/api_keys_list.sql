-- Keys in the order they were made, of those that work and those that ended last.
-- Parameters: $1 how many at most. Relies on api_keys_ended.
SELECT *, ended_at IS NULL OR ended_at > now() AS works FROM (
    SELECT * FROM api_keys ORDER BY ended_at DESC NULLS FIRST LIMIT $1
) AS listed
ORDER BY created_at, id
