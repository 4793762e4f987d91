-- The fast path of identify: which of these requests are wholly known? One statement, one snapshot, no lock, no write.
-- A request is known when each identifier it names is on a live contact, all in one family, and the pairing, if it names
-- both, is already a contact or evidence. Requests that are not known have no row in the answer.
-- Parameters: $1 emails text[], $2 phones text[]; parallel, NULL where absent.
-- Returns a row for each family: the 1-based places of its requests, its version and its contacts in a family's order.
-- Relies on idx_contacts_email, idx_contacts_phone, contacts_pairing, evidence_pkey, contacts_pkey, idx_contacts_linked_id,
-- identity_events_family.
WITH known AS MATERIALIZED (
    SELECT coalesce(by_email.family, by_phone.family) AS family, array_agg(asked.place) AS places
    FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked (email, phone, place)
    LEFT JOIN LATERAL (
        SELECT coalesce(linked_id, id) AS family FROM contacts
        WHERE email = asked.email AND deleted_at IS NULL LIMIT 1
    ) AS by_email ON true
    LEFT JOIN LATERAL (
        SELECT coalesce(linked_id, id) AS family FROM contacts
        WHERE phone_number = asked.phone AND deleted_at IS NULL LIMIT 1
    ) AS by_phone ON true
    WHERE CASE
        WHEN asked.email IS NULL THEN by_phone.family IS NOT NULL
        WHEN asked.phone IS NULL THEN by_email.family IS NOT NULL
        WHEN by_email.family = by_phone.family THEN
            EXISTS (SELECT FROM contacts
                    WHERE coalesce(email, '') || ' ' || coalesce(phone_number, '') = asked.email || ' ' || asked.phone
                      AND deleted_at IS NULL)
            OR EXISTS (SELECT FROM evidence WHERE pairing = asked.email || ' ' || asked.phone)
        ELSE false
    END
    GROUP BY 1
)
SELECT known.places, (family.columns).version, (family.columns).contact_ids, (family.columns).emails,
       (family.columns).phones, (family.columns).created_ats
FROM known CROSS JOIN LATERAL (SELECT read_family(known.family) AS columns OFFSET 0) AS family
