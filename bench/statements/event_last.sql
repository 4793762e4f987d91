-- The newest event's number; 0 if there is none. Relies on identity_events_pkey.
SELECT coalesce(max(seq), 0) FROM identity_events
