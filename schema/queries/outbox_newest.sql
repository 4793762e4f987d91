-- The newest row of the outbox; 0 if it is empty. Relies on outbox_pkey.
SELECT coalesce(max(seq), 0) FROM outbox
