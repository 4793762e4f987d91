-- Where each of these emails belongs, as find_by_email says it for one. Ask holding the write lock.
-- Parameters: $1 emails text[]. Returns (place in $1 from 1, family id, whether a live contact carries it) of the known ones.
-- Relies on idx_contacts_email, evidence_email.
SELECT asked.place, coalesce(carried.family, tied.family_id), carried.family IS NOT NULL
FROM unnest($1::text[]) WITH ORDINALITY AS asked (value, place)
LEFT JOIN LATERAL (
    SELECT coalesce(linked_id, id) AS family FROM contacts WHERE email = asked.value AND deleted_at IS NULL LIMIT 1
) AS carried ON true
LEFT JOIN LATERAL (
    SELECT family_id FROM evidence WHERE carried.family IS NULL AND email = asked.value LIMIT 1
) AS tied ON true
WHERE carried.family IS NOT NULL OR tied.family_id IS NOT NULL
