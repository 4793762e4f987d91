-- The right to be the active relay, for as long as this session lasts; false if another has it.
-- Asked for again and again rather than waited for: a waiting statement would hold back vacuum. Parameters: $1 key.
SELECT pg_try_advisory_lock($1)
