-- Which of these pairings a live contact has. Parameters, parallel: $1 emails, $2 phones; '' where there is none.
-- Returns their places, from 1. Relies on contacts_pairing.
SELECT coalesce(array_agg(asked.place), '{}')
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked (email, phone, place)
CROSS JOIN LATERAL contact_with_pairing(asked.email, asked.phone)
