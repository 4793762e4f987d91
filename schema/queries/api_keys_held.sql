-- The keys that a process holds: those that work, then those that ended last.
-- Parameters: $1 how many at most. Relies on api_keys_ended.
-- Times are seconds since 1970; expires_at is NULL for a key that never expires.
SELECT id, roles, secret_hash, extract(epoch FROM expires_at)::float8 AS expires_at, revoked_at IS NOT NULL AS revoked
FROM api_keys ORDER BY ended_at DESC NULLS FIRST LIMIT $1
