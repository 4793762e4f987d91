-- The families that changed last, the newest first.
-- Parameters: $1 how many events to look back on; $2 how many families at most.
-- Returns family ids. Relies on identity_events_pkey.
SELECT family_id FROM (
    SELECT family_id, seq FROM identity_events ORDER BY seq DESC LIMIT $1
) AS newest
GROUP BY family_id ORDER BY max(seq) DESC LIMIT $2
