-- Bound the wait of this transaction for locks: entries wait behind a retention that waits for an export.
-- Parameters: $1 milliseconds. Returns the setting. No index.
SELECT set_config('lock_timeout', $1::text, true)
