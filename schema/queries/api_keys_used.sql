-- Note the hour in which keys let callers in. A key that was revoked or has expired meanwhile keeps what it had, and so
-- does one whose row another process writes at this moment: that process notes the same hour.
-- Parameters: $1 ids. Relies on api_keys_pkey.
WITH due AS (
    SELECT id FROM api_keys
    WHERE id = ANY($1::text[])
      AND (ended_at IS NULL OR ended_at > now())
      AND (last_used_at IS NULL OR last_used_at < date_trunc('hour', now(), 'UTC'))
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE api_keys SET last_used_at = date_trunc('hour', now(), 'UTC') FROM due WHERE api_keys.id = due.id
