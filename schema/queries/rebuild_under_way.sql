-- Has a session the lock of rebuild_lock.sql? pg_locks shows the key in two halves. Parameters: none. Returns (under_way).
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 1 AND granted
      AND (classid::bigint << 32) | objid::bigint = 7954896762663232100
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
) AS under_way
