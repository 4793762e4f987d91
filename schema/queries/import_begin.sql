-- The moment from which an import counts its changes, later than every earlier one. Ask holding the write lock.
-- Relies on identity_events_pkey.
SELECT next_moment()
