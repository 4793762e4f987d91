-- Identity events by their sequences.
-- Parameters: $1 sequences.
-- Returns what events_after returns, for each that there is. Relies on identity_events_pkey.
SELECT seq, at, kind, family_id, contact_id, other_family_id, cause, request_id
FROM identity_events WHERE seq = ANY($1::bigint[])
