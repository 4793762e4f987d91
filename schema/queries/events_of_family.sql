-- The next identity events of a family, those of the families that it took in among them, in order.
-- Parameters: $1 family id, $2 after this sequence, $3 at most so many.
-- Returns what events_after returns. Relies on identity_events_family, aliases_survivor.
SELECT event.*
FROM (SELECT $1::bigint AS id UNION ALL SELECT family_id FROM aliases WHERE survivor_id = $1) AS family
CROSS JOIN LATERAL (
    SELECT seq, at, kind, family_id, contact_id, other_family_id, cause, request_id
    FROM identity_events WHERE family_id = family.id AND -seq < -$2::bigint ORDER BY -seq DESC LIMIT $3
) AS event
ORDER BY seq LIMIT $3
