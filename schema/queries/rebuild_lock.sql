-- One rebuild of the graph at a time: the session that gets this lock keeps the lock until the rebuild ends.
-- Parameters: none; the key is "nexusrbd" in ASCII. Returns whether the session has the lock now.
SELECT pg_try_advisory_lock(7954896762663232100)
