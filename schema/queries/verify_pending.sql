-- Of these families, those that the relay has still to look at. Rows set aside do not count: nobody will look at them.
-- Parameters: $1 family ids. Relies on outbox_pkey.
SELECT coalesce(array_agg(DISTINCT family_id), '{}') FROM outbox WHERE family_id = ANY ($1::bigint[]) AND parked_at IS NULL
