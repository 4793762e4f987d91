-- The fast path of identify: which of these requests are wholly known? One statement, one snapshot, no lock, no write.
-- A request is known when each identifier it names is on a live contact, all in one family, and the pairing, if it names
-- both, is already a contact or evidence. Requests that are not known have no row in the answer.
-- Parameters: $1 emails text[], $2 phones text[]; parallel, NULL where absent. $3 boolean: whether to return versions and dates.
-- To find versions is a fifth of the work, and a client takes as long for a contact's date as for all else of it.
-- Returns a row for each family: the 1-based places of its requests, its version and its contacts in a family's order;
-- version 0 and no dates without $3.
-- Relies on idx_contacts_email, idx_contacts_phone, contacts_pairing, evidence_pkey, contacts_pkey, idx_contacts_linked_id,
-- identity_events_family.
WITH known AS MATERIALIZED (
    SELECT coalesce(by_email.family_id, by_phone.family_id) AS family, array_agg(asked.place) AS places
    FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked (email, phone, place)
    LEFT JOIN LATERAL (
        SELECT family_id, phone_number = asked.phone AS paired FROM contacts_with_email(asked.email) LIMIT 1
    ) AS by_email ON true
    LEFT JOIN LATERAL (
        SELECT family_id, email = asked.email AS paired FROM contacts_with_phone(asked.phone)
        WHERE by_email.paired IS NOT TRUE LIMIT 1
    ) AS by_phone ON true
    WHERE CASE
        -- The contact that was found first carries both, as nearly always: neither another look, nor a doubt.
        WHEN by_email.paired OR by_phone.paired THEN true
        WHEN asked.email IS NULL THEN by_phone.family_id IS NOT NULL
        WHEN asked.phone IS NULL THEN by_email.family_id IS NOT NULL
        WHEN by_email.family_id = by_phone.family_id THEN
            coalesce((SELECT known FROM pairing_known(asked.email, asked.phone)), false)
        ELSE false
    END
    GROUP BY 1
)
SELECT known.places, version.seq, family.contact_ids, family.emails, family.phones, family.created_ats
FROM known
CROSS JOIN LATERAL (
    SELECT array_agg(id) AS contact_ids, array_agg(email) AS emails, array_agg(phone_number) AS phones,
           array_agg(created_at) FILTER (WHERE $3) AS created_ats
    FROM family_in_order(known.family, NULL)
) AS family
CROSS JOIN LATERAL (
    SELECT CASE WHEN $3 THEN (SELECT version FROM family_version(known.family)) ELSE 0 END AS seq
) AS version
