-- Of these families, those with outbox rows that wait. Parked rows do not count: no relay reads them.
-- Parameters: $1 family ids. Relies on outbox_pkey.
SELECT coalesce(array_agg(DISTINCT family_id), '{}') FROM outbox WHERE family_id = ANY ($1::bigint[]) AND parked_at IS NULL
