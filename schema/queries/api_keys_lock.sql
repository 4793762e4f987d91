-- One change of keys at a time, until the transaction ends. Parameters: none. Relies on api_keys_version_pkey.
SELECT version FROM api_keys_version WHERE only_row FOR UPDATE
