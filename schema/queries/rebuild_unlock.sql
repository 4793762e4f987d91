-- The end of a rebuild. Parameters: none. Returns whether the session still had the lock.
SELECT pg_advisory_unlock(7954896762663232100)
