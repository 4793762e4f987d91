-- Keep a new key, unless there are as many that work as processes have room for. The caller holds api_keys_lock.
-- Parameters: $1 id; $2 name; $3 roles; $4 SHA-256 of the secret; $5 seconds until it expires, or NULL; $6 how many keys
-- may work at a time.
-- Returns the new row, or none if there are too many. Relies on api_keys_ended.
INSERT INTO api_keys (id, name, roles, secret_hash, expires_at)
SELECT $1, $2, $3::text[], $4, now() + make_interval(secs => $5::float8)
WHERE (SELECT count(*) FROM (
           SELECT FROM api_keys WHERE ended_at IS NULL OR ended_at > now() LIMIT $6::bigint
       ) AS working) < $6
RETURNING *
