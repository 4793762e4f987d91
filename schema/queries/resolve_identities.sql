-- The fast path of identify: which of these requests are wholly known? One statement, one snapshot, no lock, no write.
-- A request is known when each identifier it names is on a live contact, all in one family, and the pairing, if it names
-- both, is already a contact or evidence. Requests that are not known have no row in the answer.
-- Parameters: $1 emails text[], $2 phones text[]; parallel, NULL where absent. $3 boolean: are versions and dates to be told?
-- To find versions is a fifth of the work, and a client takes as long for a contact's date as for all else of it.
-- Returns a row for each family: the 1-based places of its requests, its version and its contacts in a family's order;
-- version 0 and no dates where they are not to be told.
-- Relies on idx_contacts_email, idx_contacts_phone, contacts_pairing, evidence_pkey, contacts_pkey, idx_contacts_linked_id,
-- identity_events_family. The family is read here, not by read_family: a call a family costs more than the reading.
WITH known AS MATERIALIZED (
    SELECT coalesce(by_email.family, by_phone.family) AS family, array_agg(asked.place) AS places
    FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked (email, phone, place)
    LEFT JOIN LATERAL (
        SELECT coalesce(linked_id, id) AS family, phone_number = asked.phone AS paired FROM contacts
        WHERE email = asked.email AND deleted_at IS NULL LIMIT 1
    ) AS by_email ON true
    LEFT JOIN LATERAL (
        SELECT coalesce(linked_id, id) AS family, email = asked.email AS paired FROM contacts
        WHERE phone_number = asked.phone AND deleted_at IS NULL AND by_email.paired IS NOT TRUE LIMIT 1
    ) AS by_phone ON true
    WHERE CASE
        -- The contact that was found first carries both, as nearly always: neither another look, nor a doubt.
        WHEN by_email.paired OR by_phone.paired THEN true
        WHEN asked.email IS NULL THEN by_phone.family IS NOT NULL
        WHEN asked.phone IS NULL THEN by_email.family IS NOT NULL
        WHEN by_email.family = by_phone.family THEN
            -- Not EXISTS: that may be answered by hashing all evidence there is, once a call.
            coalesce(
                (SELECT true FROM contacts
                 WHERE coalesce(email, '') || ' ' || coalesce(phone_number, '') = asked.email || ' ' || asked.phone
                   AND deleted_at IS NULL LIMIT 1),
                (SELECT true FROM evidence WHERE pairing = asked.email || ' ' || asked.phone LIMIT 1),
                false
            )
        ELSE false
    END
    GROUP BY 1
)
SELECT known.places, version.seq, family.contact_ids, family.emails, family.phones, family.created_ats
FROM known
CROSS JOIN LATERAL (
    SELECT array_agg(id) AS contact_ids, array_agg(email::text) AS emails, array_agg(phone_number::text) AS phones,
           array_agg(created_at) FILTER (WHERE $3) AS created_ats
    FROM (
        SELECT id, email, phone_number, created_at FROM (
            SELECT id, email, phone_number, created_at, 0 AS place
            FROM contacts WHERE id = known.family AND deleted_at IS NULL
            UNION ALL
            SELECT id, email, phone_number, created_at, 1
            FROM contacts WHERE linked_id = known.family AND deleted_at IS NULL
        ) AS members
        ORDER BY place, created_at, id
    ) AS ordered
) AS family
CROSS JOIN LATERAL (
    SELECT CASE WHEN $3 THEN
        coalesce((SELECT seq FROM identity_events WHERE family_id = known.family ORDER BY -seq LIMIT 1), 0)
    ELSE 0 END AS seq
) AS version
