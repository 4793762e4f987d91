-- The next identity events, in the order in which they were committed.
-- Parameters: $1 after this sequence, $2 at most so many.
-- Returns (seq, at, kind, family_id, contact_id, other_family_id, cause, request_id). Relies on identity_events_pkey.
SELECT seq, at, kind, family_id, contact_id, other_family_id, cause, request_id
FROM identity_events WHERE seq > $1 ORDER BY seq LIMIT $2
