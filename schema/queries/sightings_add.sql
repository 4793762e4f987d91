-- Notes which families each principal has identified; what is noted already stays.
-- $1 principals text[], $2 family ids bigint[], in parallel.
-- Relies on sightings_pkey.
INSERT INTO sightings (principal, family_id)
SELECT * FROM unnest($1::text[], $2::bigint[])
ON CONFLICT DO NOTHING
