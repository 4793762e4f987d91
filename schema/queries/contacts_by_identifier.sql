-- A live contact for each identifier; any one that carries it, as all of them are of one family.
-- Parameters: $1 emails text[], $2 phones text[]. Returns (kind, value, contact id) for those that are known.
-- Relies on idx_contacts_email, idx_contacts_phone.
SELECT 'email' AS kind, wanted AS value, found.id
FROM unnest($1::text[]) AS wanted
CROSS JOIN LATERAL (SELECT id FROM contacts_with_email(wanted) LIMIT 1) AS found
UNION ALL
SELECT 'phone', wanted, found.id
FROM unnest($2::text[]) AS wanted
CROSS JOIN LATERAL (SELECT id FROM contacts_with_phone(wanted) LIMIT 1) AS found
