-- Has a key changed since the caller last looked, and may this server know?
-- Parameters: none. Returns one row: the version of the keys; whether the server is a standby, which may be behind.
-- Relies on api_keys_version_pkey.
SELECT version, pg_is_in_recovery() FROM api_keys_version WHERE only_row
