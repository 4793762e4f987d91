-- End a key for good. One that was revoked before keeps its time.
-- Parameters: $1 id. Returns the row, or none if there is no such key. Relies on api_keys_pkey.
UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 RETURNING *
