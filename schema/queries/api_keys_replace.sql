-- Let a key work on beside its successor, for a while and not past its own end.
-- Parameters: $1 id; $2 seconds; $3 the successor's id. Returns the row. Relies on api_keys_pkey.
UPDATE api_keys SET expires_at = least(expires_at, now() + make_interval(secs => $2::float8)), successor_id = $3
WHERE id = $1 RETURNING *
