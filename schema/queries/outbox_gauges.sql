-- How far the graph is behind. Parameters: $1 count no further than this.
-- Returns (depth: rows still to be worked off, age in seconds of the oldest of them, parked: rows set aside).
-- Relies on outbox_pkey, outbox_troubled.
SELECT (SELECT count(*) FROM (SELECT FROM outbox WHERE parked_at IS NULL LIMIT $1) AS counted) AS depth,
       coalesce((SELECT extract(epoch FROM clock_timestamp() - queued_at)::float8 FROM outbox
                 WHERE parked_at IS NULL ORDER BY seq LIMIT 1), 0) AS age,
       (SELECT count(*) FROM outbox WHERE attempts > 0 AND parked_at IS NOT NULL) AS parked
