-- Drop the months of the audit trail before one, and keep a stub of them.
-- Parameters: $1 the first month that is kept, $2 the last entry that is dropped, $3 its hash.
-- Returns the names of the tables dropped. Relies on audit_stubs_pkey, audit_log_pkey.
SELECT audit_retain($1::timestamp, $2::bigint, $3::bytea)
