-- Which of these pairings a live contact or the evidence holds. Ask holding the write lock.
-- Parameters: $1 emails text[], $2 phones text[]; parallel, none NULL. Returns the places of the known ones, from 1.
-- Relies on contacts_pairing, evidence_pkey.
SELECT coalesce(array_agg(asked.place), '{}')
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked (email, phone, place)
CROSS JOIN LATERAL pairing_known(asked.email, asked.phone)
