-- Which of these families a principal has identified, under their own ids or those of families that they took in.
-- $1 principal text, $2 family ids bigint[], $3 families bigint[] that it has identified too, and that are not stored yet.
-- Relies on sightings_pkey, aliases_survivor.
SELECT family.id
FROM unnest($2::bigint[]) AS family (id)
WHERE EXISTS (SELECT FROM sightings WHERE principal = $1 AND family_id = family.id)
   OR EXISTS (SELECT FROM aliases JOIN sightings ON sightings.principal = $1 AND sightings.family_id = aliases.family_id
              WHERE aliases.survivor_id = family.id)
   OR EXISTS (SELECT FROM aliases WHERE survivor_id = family.id AND family_id = ANY ($3::bigint[]))
