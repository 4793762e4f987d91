-- How many identity events a family has, with those of the families that it took in.
-- Parameters: $1 family id, $2 count no further than this. Relies on identity_events_family, aliases_survivor.
SELECT count(*)
FROM (
    SELECT FROM (SELECT $1::bigint AS id UNION ALL SELECT family_id FROM aliases WHERE survivor_id = $1) AS family
    JOIN identity_events ON identity_events.family_id = family.id
    LIMIT $2
) AS counted
