-- What happened: (kind, count) after an event. Parameters: $1 its number, $2 the request id of the probes' writes, which
-- do not count. Relies on identity_events_pkey.
SELECT kind, count(*) FROM identity_events WHERE seq > $1 AND request_id IS DISTINCT FROM $2::uuid GROUP BY kind
