-- Has every row up to this one been worked off, or set aside? Parameters: $1 seq. Relies on outbox_pkey.
SELECT NOT EXISTS (SELECT FROM outbox WHERE seq <= $1 AND parked_at IS NULL)
