-- Where each of these phones belongs. Ask holding the write lock.
-- Parameters: $1 phones text[]. Returns (place in $1 from 1, family id, whether a live contact carries it) of the known ones.
-- Relies on idx_contacts_phone, evidence_phone.
SELECT asked.place, known.family_id, known.live
FROM unnest($1::text[]) WITH ORDINALITY AS asked (value, place)
CROSS JOIN LATERAL family_of_phone(asked.value) AS known
