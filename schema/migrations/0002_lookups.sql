-- What the record knows, each question asked in one place: where an identifier belongs, whether a pairing is known, who is
-- in a family and in what order.
--
-- Each is a function that PostgreSQL writes into the statement that calls it, as if it were a view with parameters, so that
-- it costs no call and is planned with the rest (tests/integration/test_query_plans.py). For that it is one SELECT of LANGUAGE
-- sql, STABLE, that RETURNS TABLE, not STRICT, without SET and without SECURITY DEFINER; and it is called in FROM, with
-- arguments that hold no sub-select.

-- The live contacts that carry this email; all are of one family. Relies on idx_contacts_email.
CREATE FUNCTION contacts_with_email(wanted text)
RETURNS TABLE (id bigint, family_id bigint, email text, phone_number text)
LANGUAGE sql STABLE AS $$
    SELECT id, coalesce(linked_id, id), email, phone_number FROM contacts WHERE email = wanted AND deleted_at IS NULL
$$;

-- The same by phone. Relies on idx_contacts_phone.
CREATE FUNCTION contacts_with_phone(wanted text)
RETURNS TABLE (id bigint, family_id bigint, email text, phone_number text)
LANGUAGE sql STABLE AS $$
    SELECT id, coalesce(linked_id, id), email, phone_number FROM contacts WHERE phone_number = wanted AND deleted_at IS NULL
$$;

-- Where this email belongs: its family, and whether a live contact carries it. An identifier that only soft-deleted
-- contacts carried is still tied, by evidence, which is looked at where no contact was found. No row where it is new.
-- Relies on idx_contacts_email, evidence_email.
CREATE FUNCTION family_of_email(wanted text) RETURNS TABLE (family_id bigint, live boolean)
LANGUAGE sql STABLE AS $$
    SELECT family_id, true FROM contacts_with_email(wanted)
    UNION ALL
    SELECT family_id, false FROM evidence WHERE email = wanted
    LIMIT 1
$$;

-- The same for a phone. Relies on idx_contacts_phone, evidence_phone.
CREATE FUNCTION family_of_phone(wanted text) RETURNS TABLE (family_id bigint, live boolean)
LANGUAGE sql STABLE AS $$
    SELECT family_id, true FROM contacts_with_phone(wanted)
    UNION ALL
    SELECT family_id, false FROM evidence WHERE phone_number = wanted
    LIMIT 1
$$;

-- Where both identifiers of a request belong, each NULL where it is absent or new; live: does a live contact carry every
-- one that is named? Always one row.
CREATE FUNCTION families_named(wanted_email text, wanted_phone text)
RETURNS TABLE (by_email bigint, by_phone bigint, live boolean)
LANGUAGE sql STABLE AS $$
    SELECT email.family_id, phone.family_id,
           (wanted_email IS NULL OR email.live IS TRUE) AND (wanted_phone IS NULL OR phone.live IS TRUE)
    FROM (VALUES (true)) AS request
    LEFT JOIN LATERAL family_of_email(wanted_email) AS email ON true
    LEFT JOIN LATERAL family_of_phone(wanted_phone) AS phone ON true
$$;

-- The live contact that is this pairing; '' or NULL for what it lacks. Relies on contacts_pairing.
CREATE FUNCTION contact_with_pairing(wanted_email text, wanted_phone text)
RETURNS TABLE (id bigint, created_at timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT id, created_at FROM contacts
    WHERE coalesce(email, '') || ' ' || coalesce(phone_number, '')
          = coalesce(wanted_email, '') || ' ' || coalesce(wanted_phone, '')
      AND deleted_at IS NULL
$$;

-- Is this email known together with this phone, by a live contact or by evidence? A row if so, none if not.
-- Ask for both. Not for EXISTS alone to decide: that may be answered by hashing all evidence there is, once a call.
-- Relies on contacts_pairing, evidence_pkey.
CREATE FUNCTION pairing_known(wanted_email text, wanted_phone text) RETURNS TABLE (known boolean)
LANGUAGE sql STABLE AS $$
    SELECT true FROM contact_with_pairing(wanted_email, wanted_phone)
    UNION ALL
    SELECT true FROM evidence WHERE pairing = wanted_email || ' ' || wanted_phone
    LIMIT 1
$$;

-- Of two families the senior one, which takes the other in. Relies on contacts_pkey.
CREATE FUNCTION senior_family(one bigint, other bigint) RETURNS TABLE (id bigint)
LANGUAGE sql STABLE AS $$
    SELECT id FROM contacts WHERE id IN (one, other)
    ORDER BY created_at, (email IS NULL OR phone_number IS NULL), id LIMIT 1
$$;

-- A family in the order that every answer has, by the id of its primary: the primary first, then by (created_at, id).
-- With `joining`, the order it has once it has taken that family in; NULL: none.
-- Relies on contacts_pkey, idx_contacts_linked_id.
CREATE FUNCTION family_in_order(root bigint, joining bigint)
RETURNS TABLE (id bigint, email text, phone_number text, created_at timestamptz, updated_at timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT id, email, phone_number, created_at, updated_at
    FROM (
        SELECT id, email::text, phone_number::text, created_at, updated_at, 0 AS rank
        FROM contacts WHERE id = root AND deleted_at IS NULL
        UNION ALL
        SELECT id, email::text, phone_number::text, created_at, updated_at, 1
        FROM contacts WHERE linked_id = root AND deleted_at IS NULL
        UNION ALL
        SELECT id, email::text, phone_number::text, created_at, updated_at, 1
        FROM contacts WHERE id = joining AND deleted_at IS NULL
        UNION ALL
        SELECT id, email::text, phone_number::text, created_at, updated_at, 1
        FROM contacts WHERE linked_id = joining AND deleted_at IS NULL
    ) AS members
    -- updated_at decides nothing after id. But where a caller leaves out a column that is in no order, each row is copied.
    ORDER BY rank, created_at, id, updated_at
$$;

-- The number of a family's newest event; 0 for rows that came past the verbs and have none. Always one row.
-- Relies on identity_events_family.
CREATE FUNCTION family_version(root bigint) RETURNS TABLE (version bigint)
LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT seq FROM identity_events WHERE family_id = root ORDER BY -seq LIMIT 1), 0)
$$;

-- How many live contacts a family has, counted no further than `at_most` secondaries. Relies on idx_contacts_linked_id.
CREATE FUNCTION family_size(root bigint, at_most integer) RETURNS TABLE (contacts bigint)
LANGUAGE sql STABLE AS $$
    SELECT 1 + count(*)
    FROM (SELECT FROM contacts WHERE linked_id = root AND deleted_at IS NULL LIMIT at_most) AS counted
$$;
