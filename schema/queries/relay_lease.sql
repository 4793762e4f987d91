-- Take the lease of the active relay, or renew it. It can be had if it is this relay's already, if it was not renewed for
-- long enough, or if the session of its holder is gone. Ran by a session that lives as long as the relay works.
-- Parameters: $1 key, $2 this relay, $3 seconds that a lease lasts, $4 the process of this relay's session; null: this one.
-- Returns a row if this relay has it now. Relies on relay_lease_pkey.
INSERT INTO relay_lease AS lease (key, holder, pid, renewed_at)
VALUES ($1, $2::uuid, coalesce($4::integer, pg_backend_pid()), clock_timestamp())
ON CONFLICT (key) DO UPDATE
SET holder = excluded.holder, pid = excluded.pid, renewed_at = excluded.renewed_at
WHERE lease.holder = excluded.holder
   OR lease.renewed_at < clock_timestamp() - make_interval(secs => $3::float8)
   OR NOT EXISTS (SELECT FROM pg_stat_get_activity(lease.pid))
RETURNING pid
