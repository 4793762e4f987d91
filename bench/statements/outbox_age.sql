-- How long the oldest change has been waiting for the graph, in seconds; 0 where nothing waits. Parked rows wait too.
-- Rows are queued in the order of their numbers. Relies on outbox_pkey.
SELECT coalesce((SELECT extract(epoch FROM clock_timestamp() - queued_at) FROM outbox ORDER BY seq LIMIT 1), 0)::float8
