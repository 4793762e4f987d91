-- One key, and the facts that a rotation asks for. Parameters: $1 id. Relies on api_keys_pkey.
-- Returns its row; whether it still works; the seconds that it was made to last, NULL for ever.
SELECT *, ended_at IS NULL OR ended_at > now() AS works,
       extract(epoch FROM expires_at - created_at)::float8 AS lasts_seconds
FROM api_keys WHERE id = $1
