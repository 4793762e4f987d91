-- The family of a contact, walked in the record: up to its head, then down to all who are linked to it.
-- The recursion holds whatever the links look like, so a family that lost its shape is still read whole; that is why this
-- does not read by family_in_order, which relies on the shape.
-- Parameters: $1 ids of contacts: any of a family. An id that led a family, until that was merged or the contact was
-- deleted, is followed through aliases; a secondary that was deleted leads nowhere.
-- Returns a row for each id that leads to a live family: the asked id, then the family's columns.
-- Relies on contacts_pkey, idx_contacts_linked_id, aliases_pkey, identity_events_family.
WITH RECURSIVE asked AS (
    SELECT DISTINCT id FROM unnest($1::bigint[]) AS asked (id)
), up (asked_id, id, linked_id, hops) AS (
    SELECT asked.id, contacts.id, contacts.linked_id, 0
    FROM asked
    LEFT JOIN aliases ON aliases.family_id = asked.id
    JOIN contacts ON contacts.id = coalesce(aliases.survivor_id, asked.id) AND contacts.deleted_at IS NULL
    UNION
    SELECT up.asked_id, contacts.id, contacts.linked_id, up.hops + 1
    FROM up JOIN contacts ON contacts.id = up.linked_id AND contacts.deleted_at IS NULL
    WHERE up.hops < 64
), heads AS (
    SELECT DISTINCT id FROM up WHERE linked_id IS NULL
), members (head, id, email, phone_number, created_at) AS (
    SELECT contacts.id, contacts.id, email, phone_number, created_at
    FROM heads JOIN contacts USING (id)
    UNION
    SELECT members.head, contacts.id, contacts.email, contacts.phone_number, contacts.created_at
    FROM members JOIN contacts ON contacts.linked_id = members.id AND contacts.deleted_at IS NULL
), families AS (
    SELECT head,
           array_agg(id ORDER BY id <> head, created_at, id) AS contact_ids,
           array_agg(email::text ORDER BY id <> head, created_at, id) AS emails,
           array_agg(phone_number::text ORDER BY id <> head, created_at, id) AS phones,
           array_agg(created_at ORDER BY id <> head, created_at, id) AS created_ats
    FROM members GROUP BY head
)
SELECT up.asked_id, known.version, contact_ids, emails, phones, created_ats
FROM up
JOIN families ON families.head = up.id
CROSS JOIN LATERAL family_version(up.id) AS known
WHERE up.linked_id IS NULL
