-- A family could not be projected: its rows wait for another try, or are parked after the last.
-- Parameters: $1 seqs, $2 what the error was called, $3 tries at most, $4 first wait and $5 longest wait in seconds.
-- Returns whether it was parked. Relies on outbox_pkey.
WITH failed AS (
    UPDATE outbox
    SET attempts = attempts + 1,
        last_error = $2,
        next_try_at = clock_timestamp()
                      + make_interval(secs => least($5::float8, $4::float8 * 2 ^ attempts) * (0.5 + random() / 2)),
        parked_at = CASE WHEN attempts + 1 >= $3::integer THEN clock_timestamp() END
    WHERE seq = ANY ($1::bigint[])
    RETURNING parked_at
)
SELECT coalesce(bool_or(parked_at IS NOT NULL), false) FROM failed
