-- Does the record take writes? A standby does not, nor does a server, a database or a login that is set to read only.
-- No parameters, no table. Returns one row: is it a standby, is it read-only.
SELECT pg_is_in_recovery(), current_setting('transaction_read_only')::boolean
