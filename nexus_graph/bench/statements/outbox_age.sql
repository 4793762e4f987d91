-- How long the oldest change has been waiting for the graph, in seconds; 0 where nothing waits. Parked rows wait too.
-- The queue is short, so it reads all of it.
SELECT coalesce(extract(epoch FROM clock_timestamp() - min(queued_at)), 0)::float8 FROM outbox
