-- How far the graph is behind, and when a relay last said that it is at work. Parameters: $1 key of the lease.
-- Returns (age: seconds that the oldest row of the outbox waits, 0 if none does; renewed: seconds since the lease was
-- renewed, null if no relay has it). Relies on outbox_pkey, relay_lease_pkey.
SELECT coalesce((SELECT extract(epoch FROM clock_timestamp() - queued_at)::float8 FROM outbox
                 WHERE parked_at IS NULL ORDER BY seq LIMIT 1), 0) AS age,
       (SELECT extract(epoch FROM clock_timestamp() - renewed_at)::float8 FROM relay_lease
        WHERE key = $1 AND isfinite(renewed_at)) AS renewed
