-- identify_batch_v3: what identify_batch_v2 decides, row for row and number for number, for about half of its time.
--
-- Most rows of a batch have nothing to do with one another. One statement finds out where all of them belong and reads
-- their families; each row is decided by that, in order; then what they changed is written, one statement a table instead
-- of one a row. A row cannot be decided so if an earlier one concerns it (it changed a family that this one names, or
-- brought an identifier that was new), or if what becomes of it is rare (a refusal; a union by identifiers that only a
-- deleted contact carried). Then what was decided before it is written, identify_batch_v2 decides it, and those after it
-- are looked up anew. So every row sees the last, as in identify_batch_v1, and a test holds the three to be one. As in
-- identify_batch_v2, a row that fails for its data fails the whole call.
--
-- Two rows or fewer are identify_batch_v2's in any case: what this function spares begins with the third.

-- What a row changed, to be written with what others did.
CREATE TYPE identity_change AS (
    seq             bigint,       -- the family's new version
    at              timestamptz,
    kind            text,         -- of the event
    family_id       bigint,
    contact_id      bigint,       -- who is new
    other_family_id bigint,       -- the family that is no more
    other_seq       bigint,       -- and its last version
    email           text,
    phone           text,
    request_id      uuid
);

CREATE FUNCTION identify_batch_v3(
    wanted_emails text[], wanted_phones text[], requests uuid[], family_limit integer
) RETURNS TABLE (
    outcome text, reason text, family_id bigint, version bigint,
    contact_ids bigint[], emails text[], phones text[], created_ats timestamptz[]
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = public, pg_temp
-- Every statement in here is served by an index, also while the statistics still say that the tables are empty.
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    few CONSTANT integer := 3;  -- fewer rows than that are decided one by one in less time
    asked_rows CONSTANT integer := cardinality(wanted_emails);
    first    integer := 1;  -- of the rows that are not decided yet
    upto     integer;       -- the last that is
    place    integer;
    wanted_email text;
    wanted_phone text;
    by_email bigint;
    by_phone bigint;
    live     boolean;  -- does a live contact carry every identifier?
    paired   boolean;  -- is their pairing known? NULL where that does not matter
    home     bigint;
    other    bigint;
    other_ids bigint[];
    newcomer bigint;
    other_version bigint;
    kind     text;
    last_at  timestamptz;
    moment   timestamptz;
    touched  bigint[];  -- families that are changed
    changes  identity_change[];
    losers   bigint[];  -- families that are no more,
    survivors bigint[];  -- the family that takes each in,
    merged_at timestamptz[];  -- when,
    moving   bigint[];  -- and all their contacts
    told     boolean := false;
BEGIN
    PERFORM take_write_lock();

    WHILE first <= asked_rows LOOP
        upto := first - 1;
        IF asked_rows - upto >= few THEN
            moment := NULL;
            touched := '{}';
            changes := '{}';
            losers := '{}';
            survivors := '{}';
            merged_at := '{}';
            moving := '{}';
            -- Where do they belong? Relies on idx_contacts_email, _phone and _linked_id, contacts_pkey, contacts_pairing,
            -- evidence_email, evidence_phone, evidence_pkey, identity_events_family and identity_events_pkey.
            FOR place, wanted_email, wanted_phone, by_email, by_phone, live, paired, home, version,
                contact_ids, emails, phones, created_ats, other_ids, last_at
            IN
                SELECT asked.place + first - 1, asked.email, asked.phone, tied.by_email, tied.by_phone, tied.live,
                       tied.paired, senior.id,
                       -- The version, where it stays.
                       CASE WHEN tied.live AND tied.paired IS NOT FALSE
                                 AND (tied.by_email <> tied.by_phone) IS NOT TRUE THEN coalesce(
                           (SELECT seq FROM identity_events WHERE family_id = senior.id ORDER BY -seq LIMIT 1), 0
                       ) END,
                       family.*,
                       (SELECT at FROM identity_events ORDER BY seq DESC LIMIT 1)
                FROM unnest(wanted_emails[first:], wanted_phones[first:]) WITH ORDINALITY AS asked (email, phone, place)
                CROSS JOIN LATERAL (
                    SELECT (SELECT coalesce(linked_id, id) FROM contacts
                            WHERE email = asked.email AND deleted_at IS NULL LIMIT 1) AS by_email,
                           (SELECT coalesce(linked_id, id) FROM contacts
                            WHERE phone_number = asked.phone AND deleted_at IS NULL LIMIT 1) AS by_phone
                    OFFSET 0  -- here and below: worked out once, not wherever it is named
                ) AS carried
                CROSS JOIN LATERAL (
                    SELECT coalesce(carried.by_email, (SELECT family_id FROM evidence
                                                       WHERE email = asked.email LIMIT 1)) AS by_email,
                           coalesce(carried.by_phone, (SELECT family_id FROM evidence
                                                       WHERE phone_number = asked.phone LIMIT 1)) AS by_phone,
                           (carried.by_email IS NOT NULL OR asked.email IS NULL)
                               AND (carried.by_phone IS NOT NULL OR asked.phone IS NULL) AS live,
                           CASE WHEN carried.by_email = carried.by_phone THEN coalesce(
                               (SELECT true FROM contacts
                                WHERE coalesce(email, '') || ' ' || coalesce(phone_number, '')
                                      = asked.email || ' ' || asked.phone AND deleted_at IS NULL LIMIT 1),
                               (SELECT true FROM evidence WHERE pairing = asked.email || ' ' || asked.phone LIMIT 1),
                               false
                           ) END AS paired
                    OFFSET 0
                ) AS tied
                CROSS JOIN LATERAL (
                    SELECT CASE WHEN tied.by_email <> tied.by_phone THEN
                               (SELECT id FROM contacts WHERE id IN (tied.by_email, tied.by_phone)
                                ORDER BY created_at, (email IS NULL OR phone_number IS NULL), id LIMIT 1)
                           ELSE coalesce(tied.by_email, tied.by_phone) END AS id
                    OFFSET 0
                ) AS senior
                CROSS JOIN LATERAL (
                    SELECT array_agg(id), array_agg(email::text), array_agg(phone_number::text), array_agg(created_at),
                           array_agg(id) FILTER (WHERE root <> senior.id)
                    FROM (
                        SELECT id, email, phone_number, created_at, root FROM (
                            SELECT id, email, phone_number, created_at, id AS root
                            FROM contacts WHERE id IN (tied.by_email, tied.by_phone) AND deleted_at IS NULL
                            UNION ALL
                            SELECT id, email, phone_number, created_at, linked_id
                            FROM contacts WHERE linked_id IN (tied.by_email, tied.by_phone) AND deleted_at IS NULL
                        ) AS members
                        ORDER BY id <> senior.id, created_at, id
                    ) AS ordered
                ) AS family
                ORDER BY asked.place
            LOOP
                -- An earlier row changed one of these families, or brought who was new.
                EXIT WHEN by_email = ANY (touched) OR by_phone = ANY (touched)
                    OR (by_email IS NULL AND wanted_email IS NOT NULL
                        AND array_position(wanted_emails, wanted_email, first) < place)
                    OR (by_phone IS NULL AND wanted_phone IS NOT NULL
                        AND array_position(wanted_phones, wanted_phone, first) < place);

                other := CASE WHEN by_email <> by_phone THEN by_email + by_phone - home END;
                IF live AND other IS NULL THEN
                    outcome := 'MATCHED';
                ELSIF live AND cardinality(contact_ids) <= family_limit THEN
                    outcome := 'MERGED';
                ELSIF by_email IS NULL AND by_phone IS NULL THEN
                    outcome := 'CREATED';
                ELSIF other IS NULL AND cardinality(contact_ids) < family_limit THEN
                    outcome := 'LINKED';
                ELSE
                    EXIT;
                END IF;
                upto := place;
                family_id := home;
                IF outcome = 'MATCHED' AND paired IS NOT FALSE THEN
                    RETURN NEXT;
                    CONTINUE;
                END IF;

                -- Later than every earlier one, whatever the wall clock does.
                moment := coalesce(moment, greatest(clock_timestamp(), last_at)) + interval '1 microsecond';
                version := nextval('change_seq');
                newcomer := NULL;
                other_version := NULL;
                IF outcome = 'LINKED' THEN
                    kind := 'contact_linked';
                    newcomer := nextval('contacts_id_seq');
                    contact_ids := contact_ids || newcomer;
                    emails := emails || wanted_email;
                    phones := phones || wanted_phone;
                    created_ats := created_ats || moment;
                ELSIF outcome = 'CREATED' THEN
                    kind := 'contact_created';
                    newcomer := nextval('contacts_id_seq');
                    family_id := newcomer;
                    contact_ids := ARRAY[newcomer];
                    emails := ARRAY[wanted_email];
                    phones := ARRAY[wanted_phone];
                    created_ats := ARRAY[moment];
                ELSIF outcome = 'MERGED' THEN
                    kind := 'families_merged';
                    other_version := nextval('change_seq');
                    losers := losers || other;
                    survivors := survivors || home;
                    merged_at := merged_at || moment;
                    moving := moving || other_ids;
                    touched := touched || other;
                ELSE
                    kind := 'evidence_added';
                END IF;
                touched := touched || family_id;
                changes := changes || ROW(version, moment, kind, family_id, newcomer, other, other_version,
                                          wanted_email, wanted_phone, requests[place])::identity_change;
                RETURN NEXT;
            END LOOP;

            IF cardinality(changes) > 0 THEN
                told := true;
                INSERT INTO contacts (id, email, phone_number, linked_id, link_precedence, created_at, updated_at)
                OVERRIDING SYSTEM VALUE
                SELECT contact_id, email, phone, nullif(family_id, contact_id),
                       CASE WHEN family_id = contact_id THEN 'primary' ELSE 'secondary' END, at, at
                FROM unnest(changes) WHERE contact_id IS NOT NULL;
                INSERT INTO identity_events (seq, at, kind, family_id, contact_id, other_family_id, request_id)
                SELECT seq, at, kind, family_id, coalesce(contact_id, other_family_id), other_family_id, request_id
                FROM unnest(changes);
                IF cardinality(losers) > 0 THEN
                    -- The losers' contacts, evidence and aliases go over to the survivors. Relies on contacts_pkey,
                    -- evidence_family, aliases_survivor. Not joined with the lists: while the tables look empty, a
                    -- plan may join by reading all of an index.
                    UPDATE contacts SET linked_id = survivors[array_position(losers, coalesce(linked_id, id))],
                                        link_precedence = 'secondary',
                                        updated_at = merged_at[array_position(losers, coalesce(linked_id, id))]
                    WHERE id = ANY (moving);
                    UPDATE evidence SET family_id = survivors[array_position(losers, family_id)]
                    WHERE family_id = ANY (losers);
                    UPDATE aliases SET survivor_id = survivors[array_position(losers, survivor_id)]
                    WHERE survivor_id = ANY (losers);
                    INSERT INTO aliases (family_id, survivor_id, version)
                    SELECT other_family_id, family_id, other_seq FROM unnest(changes)
                    WHERE other_family_id IS NOT NULL
                    ON CONFLICT ON CONSTRAINT aliases_pkey
                    DO UPDATE SET survivor_id = excluded.survivor_id, version = excluded.version;
                END IF;
                INSERT INTO evidence (email, phone_number, family_id, request_id, seen_at)
                SELECT email, phone, family_id, request_id, at
                FROM unnest(changes) WHERE contact_id IS NULL
                ON CONFLICT DO NOTHING;
                -- The graph hears of both families of a union.
                INSERT INTO outbox (seq, family_id, queued_at)
                SELECT seq, family_id, at FROM unnest(changes)
                UNION ALL
                SELECT other_seq, other_family_id, at FROM unnest(changes) WHERE other_family_id IS NOT NULL;
            END IF;
        END IF;

        IF upto < asked_rows THEN
            -- Where rows meet that soon, or few are left, looking up anew would cost more than it spares.
            place := upto + 1;
            upto := CASE WHEN place - first < few THEN asked_rows ELSE place END;
            RETURN QUERY SELECT * FROM identify_batch_v2(
                wanted_emails[place:upto], wanted_phones[place:upto], requests[place:upto], family_limit);
        END IF;
        first := upto + 1;
    END LOOP;

    IF told THEN
        -- A hint, at most one a commit: the relay polls regardless.
        NOTIFY outbox;
    END IF;
END $$;

REVOKE EXECUTE ON FUNCTION identify_batch_v3 FROM PUBLIC;
GRANT EXECUTE ON FUNCTION identify_batch_v3 TO nexus_api, nexus_import;
