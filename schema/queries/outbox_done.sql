-- The graph shows what these rows asked for. Exactly these are deleted: a row that came meanwhile stays.
-- Parameters: $1 seqs. Returns how long each had waited, in seconds. Relies on outbox_pkey.
WITH done AS (
    DELETE FROM outbox WHERE seq = ANY ($1::bigint[]) RETURNING queued_at
)
SELECT coalesce(array_agg(extract(epoch FROM clock_timestamp() - queued_at)::float8), '{}') FROM done
