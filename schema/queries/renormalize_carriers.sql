-- Who carries each of these identifiers. An email has an @ and a phone has none, so that one list holds both.
-- Parameters: $1 emails and phones, $2 at most so many contacts of each.
-- Returns (place in $1 from 1, its family, ids of live contacts that carry it). Relies on idx_contacts_email, _phone,
-- evidence_email, _phone.
SELECT asked.place,
       coalesce((SELECT family_id FROM family_of_email(asked.value)),
                (SELECT family_id FROM family_of_phone(asked.value))),
       ARRAY((SELECT id FROM contacts WHERE email = asked.value AND deleted_at IS NULL LIMIT $2)
             UNION ALL
             (SELECT id FROM contacts WHERE phone_number = asked.value AND deleted_at IS NULL LIMIT $2))
FROM unnest($1::text[]) WITH ORDINALITY AS asked (value, place)
ORDER BY asked.place
