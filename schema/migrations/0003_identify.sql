-- identify: who is this? A call answers a batch of requests, in order, each as if it saw the last. docs/adr/0001.
--
-- Two functions decide by the same rules, identify_in_turn and identify_together; nexus_graph/bulk/decide.py has the rules
-- a third time, for files. tests/property/test_twins.py and test_import.py hold the three to be one, number for number.
-- In both functions every statement is served by an index, also while the statistics say that the tables are empty; a
-- moment is later than every earlier one, whatever the wall clock does; and a NOTIFY, at most one a commit, is a hint:
-- the relay polls regardless.

-- The losers' contacts, evidence and aliases go over to the survivors; `versions` are the losers' last. Each survivor is one
-- of the end: it is no loser of the same call. Events and outbox rows are the caller's, who holds the write lock.
-- Relies on contacts_pkey, idx_contacts_linked_id, evidence_family, aliases_survivor, aliases_pkey. The lists are not joined:
-- while the tables look empty, a plan may join by reading all of an index. So a row costs a walk through the losers, of
-- whom a call should have a few hundred at most.
CREATE FUNCTION unite_families(losers bigint[], survivors bigint[], moments timestamptz[], versions bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    UPDATE contacts SET linked_id = survivors[array_position(losers, coalesce(linked_id, id))],
                        link_precedence = 'secondary',
                        updated_at = moments[array_position(losers, coalesce(linked_id, id))]
    -- A primary that an import made as a loser is linked already.
    WHERE ((id = ANY (losers) AND linked_id IS NULL) OR linked_id = ANY (losers)) AND deleted_at IS NULL;
    UPDATE evidence SET family_id = survivors[array_position(losers, family_id)] WHERE family_id = ANY (losers);
    UPDATE aliases SET survivor_id = survivors[array_position(losers, survivor_id)] WHERE survivor_id = ANY (losers);
    INSERT INTO aliases (family_id, survivor_id, version)
    SELECT * FROM unnest(losers, survivors, versions)
    ON CONFLICT (family_id) DO UPDATE SET survivor_id = excluded.survivor_id, version = excluded.version;
END $$;

-- The same for one family, at this moment; the graph hears that it is no more.
CREATE FUNCTION retire_family(retired bigint, successor bigint, moment timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    seq bigint := nextval('change_seq');
BEGIN
    PERFORM unite_families(ARRAY[retired], ARRAY[successor], ARRAY[moment], ARRAY[seq]);
    INSERT INTO outbox (seq, family_id, queued_at) VALUES (seq, retired, moment);
END $$;

-- Records a refused union, once for each two families. Returns the new version; NULL if it was recorded before.
-- Relies on identity_events_refusal.
CREATE FUNCTION refuse_union(home bigint, other bigint, request uuid, moment timestamptz) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF EXISTS (SELECT FROM identity_events
               WHERE kind = 'union_refused'
                 AND least(family_id, other_family_id) = least(home, other)
                 AND greatest(family_id, other_family_id) = greatest(home, other)) THEN
        RETURN NULL;
    END IF;
    RETURN record_change('union_refused', home, NULL, other, 'FAMILY_LIMIT', request, moment);
END $$;

-- The batch, one row after another. A row that fails for its data fails the call, and nothing is written.
-- outcome: CREATED, LINKED, MERGED, MATCHED or REFUSED; reason: why it was refused; then the family afterwards.
CREATE FUNCTION identify_in_turn(
    wanted_emails text[], wanted_phones text[], requests uuid[], family_limit integer
) RETURNS TABLE (
    outcome text, reason text, family_id bigint, version bigint,
    contact_ids bigint[], emails text[], phones text[], created_ats timestamptz[]
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = public, pg_temp
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    wanted_email text;
    wanted_phone text;
    request  uuid;
    moment   timestamptz;  -- of the last change
    by_email bigint;
    by_phone bigint;
    live     boolean;
    home     bigint;
    other    bigint;  -- the family that a union would take in
    fresh    bigint;  -- a number for who or what is new
    told     boolean := false;
BEGIN
    PERFORM take_write_lock();
    SELECT at INTO moment FROM identity_events ORDER BY seq DESC LIMIT 1;

    FOR place IN 1 .. cardinality(wanted_emails) LOOP
        wanted_email := wanted_emails[place];
        wanted_phone := wanted_phones[place];
        request := requests[place];
        moment := greatest(clock_timestamp(), moment + interval '1 microsecond');
        reason := NULL;
        other := NULL;

        SELECT named.by_email, named.by_phone, named.live INTO by_email, by_phone, live
        FROM families_named(wanted_email, wanted_phone) AS named;
        home := coalesce(by_email, by_phone);

        -- Nothing is known: somebody new.
        IF home IS NULL THEN
            INSERT INTO contacts (email, phone_number, link_precedence, created_at, updated_at)
            VALUES (wanted_email, wanted_phone, 'primary', moment, moment) RETURNING id INTO family_id;
            INSERT INTO identity_events (seq, at, kind, family_id, contact_id, request_id)
            VALUES (nextval('change_seq'), moment, 'contact_created', family_id, family_id, request)
            RETURNING seq INTO version;
            INSERT INTO outbox (seq, family_id, queued_at) VALUES (version, family_id, moment);
            told := true;
            outcome := 'CREATED';
            contact_ids := ARRAY[family_id];
            emails := ARRAY[wanted_email];
            phones := ARRAY[wanted_phone];
            created_ats := ARRAY[moment];
            RETURN NEXT;
            CONTINUE;
        END IF;

        IF by_email <> by_phone THEN
            SELECT id INTO STRICT home FROM senior_family(by_email, by_phone);
            other := by_email + by_phone - home;
        ELSIF live AND wanted_email IS NOT NULL AND wanted_phone IS NOT NULL
              AND (SELECT known FROM pairing_known(wanted_email, wanted_phone)) IS NULL THEN
            -- Nothing is new but the pairing.
            INSERT INTO evidence (email, phone_number, family_id, request_id, seen_at)
            VALUES (wanted_email, wanted_phone, home, request, moment);
            INSERT INTO identity_events (seq, at, kind, family_id, request_id)
            VALUES (nextval('change_seq'), moment, 'evidence_added', home, request) RETURNING seq INTO version;
            INSERT INTO outbox (seq, family_id, queued_at) VALUES (version, home, moment);
            told := true;
        END IF;

        SELECT (SELECT family_version.version FROM family_version(home)),
               array_agg(id), array_agg(email), array_agg(phone_number), array_agg(created_at)
        INTO version, contact_ids, emails, phones, created_ats
        FROM family_in_order(home, other);
        family_id := home;
        outcome := 'MATCHED';

        IF other IS NOT NULL THEN
            IF cardinality(contact_ids) + (NOT live)::integer > family_limit THEN
                -- Both do not fit into one.
                outcome := 'REFUSED';
                reason := 'FAMILY_LIMIT';
                fresh := refuse_union(home, other, request, moment);
                told := told OR fresh IS NOT NULL;
                version := coalesce(fresh, version);
                SELECT array_agg(id), array_agg(email), array_agg(phone_number), array_agg(created_at)
                INTO contact_ids, emails, phones, created_ats
                FROM family_in_order(home, NULL);
                RETURN NEXT;
                CONTINUE;
            END IF;
            -- The senior family takes the other in; the graph hears of both.
            version := nextval('change_seq');
            fresh := nextval('change_seq');
            INSERT INTO identity_events (seq, at, kind, family_id, contact_id, other_family_id, request_id)
            VALUES (version, moment, 'families_merged', home, other, other, request);
            PERFORM unite_families(ARRAY[other], ARRAY[home], ARRAY[moment], ARRAY[fresh]);
            INSERT INTO outbox (seq, family_id, queued_at) VALUES (version, home, moment), (fresh, other, moment);
            told := true;
            outcome := 'MERGED';
            IF live THEN
                INSERT INTO evidence (email, phone_number, family_id, request_id, seen_at)
                VALUES (wanted_email, wanted_phone, home, request, moment) ON CONFLICT DO NOTHING;
            ELSE
                moment := moment + interval '1 microsecond';
            END IF;
        END IF;

        IF live THEN
            RETURN NEXT;
        ELSIF cardinality(contact_ids) < family_limit THEN
            INSERT INTO contacts (email, phone_number, linked_id, link_precedence, created_at, updated_at)
            VALUES (wanted_email, wanted_phone, home, 'secondary', moment, moment) RETURNING id INTO fresh;
            INSERT INTO identity_events (seq, at, kind, family_id, contact_id, request_id)
            VALUES (nextval('change_seq'), moment, 'contact_linked', home, fresh, request) RETURNING seq INTO version;
            INSERT INTO outbox (seq, family_id, queued_at) VALUES (version, home, moment);
            told := true;
            IF outcome = 'MATCHED' THEN
                outcome := 'LINKED';
            END IF;
            contact_ids := contact_ids || fresh;
            emails := emails || wanted_email;
            phones := phones || wanted_phone;
            created_ats := created_ats || moment;
            RETURN NEXT;
        ELSE
            outcome := 'REFUSED';
            reason := 'FAMILY_LIMIT';
            -- A full family takes no new contact: an identifier that is new stands apart, as a family of its own.
            wanted_email := CASE WHEN by_email IS NULL THEN wanted_email END;
            wanted_phone := CASE WHEN by_phone IS NULL THEN wanted_phone END;
            IF wanted_email IS NOT NULL OR wanted_phone IS NOT NULL THEN
                INSERT INTO contacts (email, phone_number, link_precedence, created_at, updated_at)
                VALUES (wanted_email, wanted_phone, 'primary', moment, moment) RETURNING id INTO family_id;
                PERFORM record_change('contact_created', family_id, family_id, NULL, NULL, request, moment);
                contact_ids := ARRAY[family_id];
                emails := ARRAY[wanted_email];
                phones := ARRAY[wanted_phone];
                created_ats := ARRAY[moment];
                moment := moment + interval '1 microsecond';
                version := refuse_union(family_id, home, request, moment);
                told := true;
            END IF;
            RETURN NEXT;
        END IF;
    END LOOP;

    IF told THEN
        NOTIFY outbox;
    END IF;
END $$;

-- What a row of identify_together changed, to be written with what others did.
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

-- The batch at once, for about half of the time: most of its rows have nothing to do with one another. One statement finds
-- where all rows belong and reads their families; each row is decided by that, in order; then all changes are written, one
-- statement a table. A row is left to identify_in_turn if an earlier row may concern it (it changed a family that this row
-- names, or names the same identifier), or if its outcome is rare (a refusal; a union by identifiers that only a deleted
-- contact carried). Rows after it are looked up again: at most twice as many as the last look-up settled. So a batch of n
-- rows costs at most n + 2n look-ups here, and one each in identify_in_turn. `few`: fewer rows are not worth a look-up.
CREATE FUNCTION identify_together(
    wanted_emails text[], wanted_phones text[], requests uuid[], family_limit integer, few integer
) RETURNS TABLE (
    outcome text, reason text, family_id bigint, version bigint,
    contact_ids bigint[], emails text[], phones text[], created_ats timestamptz[]
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = public, pg_temp
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    asked_rows CONSTANT integer := cardinality(wanted_emails);
    first    integer := 1;           -- of the rows that are not decided yet
    ahead    integer := asked_rows;  -- how many of them are looked up at once,
    last     integer;                -- so: up to this one
    upto     integer;                -- the last that is decided
    place    integer;
    wanted_email text;
    wanted_phone text;
    by_email bigint;
    by_phone bigint;
    live     boolean;
    repeated boolean;  -- does an earlier row name one of the identifiers?
    paired   boolean;  -- is their pairing known? NULL where that does not matter
    home     bigint;
    other    bigint;   -- the family that a union would take in
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
    last_versions bigint[];  -- and the version that each ended with
    told     boolean := false;
BEGIN
    PERFORM take_write_lock();

    WHILE first <= asked_rows LOOP
        upto := first - 1;
        last := least(upto + ahead, asked_rows);
        IF asked_rows - upto >= few THEN
            moment := NULL;
            touched := '{}';
            changes := '{}';
            losers := '{}';
            survivors := '{}';
            merged_at := '{}';
            last_versions := '{}';
            -- Where do they belong? The family of a row that is not to be decided here is not read.
            FOR place, wanted_email, wanted_phone, by_email, by_phone, live, repeated, paired, home, other, version,
                contact_ids, emails, phones, created_ats, last_at
            IN
                SELECT asked.number + first - 1, asked.email, asked.phone, named.by_email, named.by_phone, named.live,
                       tied.repeated, tied.paired, tied.home, united.other,
                       -- The version, where it stays.
                       CASE WHEN named.live AND tied.paired IS NOT FALSE AND united.other IS NULL THEN
                           (SELECT family_version.version FROM family_version(tied.home)) END,
                       family.*,
                       (SELECT at FROM identity_events ORDER BY seq DESC LIMIT 1)
                FROM unnest(wanted_emails[first:last], wanted_phones[first:last])
                     WITH ORDINALITY AS asked (email, phone, number)
                CROSS JOIN LATERAL families_named(asked.email, asked.phone) AS named
                CROSS JOIN LATERAL (
                    SELECT CASE WHEN named.by_email <> named.by_phone THEN
                               (SELECT id FROM senior_family(named.by_email, named.by_phone))
                           ELSE coalesce(named.by_email, named.by_phone) END AS home,
                           CASE WHEN named.live AND named.by_email = named.by_phone THEN
                               coalesce((SELECT known FROM pairing_known(asked.email, asked.phone)), false)
                           END AS paired,
                           (asked.email IS NOT NULL
                               AND array_position(wanted_emails, asked.email, first) < asked.number + first - 1)
                           OR (asked.phone IS NOT NULL
                               AND array_position(wanted_phones, asked.phone, first) < asked.number + first - 1) AS repeated
                    OFFSET 0  -- worked out once, not wherever it is named
                ) AS tied
                CROSS JOIN LATERAL (
                    SELECT CASE WHEN named.by_email <> named.by_phone THEN
                               named.by_email + named.by_phone - tied.home END AS other
                ) AS united
                CROSS JOIN LATERAL (
                    SELECT array_agg(id), array_agg(email), array_agg(phone_number), array_agg(created_at)
                    FROM family_in_order(CASE WHEN NOT tied.repeated THEN tied.home END,
                                         CASE WHEN NOT tied.repeated THEN united.other END)
                ) AS family
                ORDER BY asked.number
            LOOP
                EXIT WHEN repeated OR by_email = ANY (touched) OR by_phone = ANY (touched);

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
                    last_versions := last_versions || other_version;
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
                    PERFORM unite_families(losers, survivors, merged_at, last_versions);
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

        IF upto < last THEN
            -- Where rows meet that soon, or few are left, looking up again would cost more than it spares.
            place := upto + 1;
            upto := CASE WHEN place - first < few THEN asked_rows ELSE place END;
            RETURN QUERY SELECT * FROM identify_in_turn(
                wanted_emails[place:upto], wanted_phones[place:upto], requests[place:upto], family_limit);
        END IF;
        ahead := 2 * (upto - first + 1);
        first := upto + 1;
    END LOOP;

    IF told THEN
        NOTIFY outbox;
    END IF;
END $$;
