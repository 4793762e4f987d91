-- identify: who is this? One call answers a batch of requests, in order, each seeing the last. docs/adr/0001.

-- The one lock of all writers. The key is "nexus" in ASCII.
CREATE FUNCTION take_write_lock() RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    -- Under REPEATABLE READ every read after the lock would still be older than the lock.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'writers run under READ COMMITTED, not %', current_setting('transaction_isolation')
            USING ERRCODE = 'invalid_transaction_state';
    END IF;
    PERFORM pg_advisory_xact_lock(474219276659);
END $$;

-- A moment later than every earlier one, whatever the wall clock does. Call it holding the write lock.
CREATE FUNCTION next_moment() RETURNS timestamptz
LANGUAGE sql VOLATILE AS $$
    SELECT greatest(clock_timestamp(), (SELECT at + interval '1 microsecond' FROM identity_events ORDER BY seq DESC LIMIT 1))
$$;

-- One change: its event and its outbox row, in the transaction that makes it. Returns the family's new version.
CREATE FUNCTION record_change(
    kind text, family bigint, contact bigint, other_family bigint, cause text, request uuid, moment timestamptz
) RETURNS bigint
LANGUAGE sql VOLATILE AS $$
    WITH event AS (
        INSERT INTO identity_events (seq, at, kind, family_id, contact_id, other_family_id, cause, request_id)
        VALUES (nextval('change_seq'), moment, kind, family, contact, other_family, cause, request)
        RETURNING seq, family_id, at
    )
    INSERT INTO outbox (seq, family_id, queued_at) SELECT seq, family_id, at FROM event RETURNING seq
$$;

-- A family in the order every answer has: the primary first, then by (created_at, id); as parallel arrays.
CREATE TYPE family_columns AS (
    family_id   bigint,
    version     bigint,
    contact_ids bigint[],
    emails      text[],
    phones      text[],
    created_ats timestamptz[]
);

-- The family whose primary is `root`. Relies on contacts_pkey, idx_contacts_linked_id, identity_events_family.
CREATE FUNCTION read_family(root bigint) RETURNS family_columns
LANGUAGE sql STABLE AS $$
    SELECT root,
           -- 0: rows that came past the verbs and have no event.
           coalesce((SELECT seq FROM identity_events WHERE family_id = root ORDER BY -seq LIMIT 1), 0),
           array_agg(id), array_agg(email::text), array_agg(phone_number::text), array_agg(created_at)
    FROM (
        SELECT id, email, phone_number, created_at FROM (
            SELECT id, email, phone_number, created_at, 0 AS place
            FROM contacts WHERE id = root AND deleted_at IS NULL
            UNION ALL
            SELECT id, email, phone_number, created_at, 1
            FROM contacts WHERE linked_id = root AND deleted_at IS NULL
        ) AS members
        ORDER BY place, created_at, id
    ) AS ordered
$$;

-- Where an email, then a phone, belongs: its family, and whether a live contact carries it. An identifier that only a
-- soft-deleted contact carried is still tied, by evidence. Relies on idx_contacts_email/_phone, evidence_email/_phone.
CREATE FUNCTION find_by_email(wanted text, OUT family bigint, OUT live boolean)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT coalesce(linked_id, id) INTO family FROM contacts WHERE email = wanted AND deleted_at IS NULL LIMIT 1;
    live := FOUND;
    IF NOT live THEN
        SELECT family_id INTO family FROM evidence WHERE email = wanted LIMIT 1;
    END IF;
END $$;

CREATE FUNCTION find_by_phone(wanted text, OUT family bigint, OUT live boolean)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT coalesce(linked_id, id) INTO family FROM contacts WHERE phone_number = wanted AND deleted_at IS NULL LIMIT 1;
    live := FOUND;
    IF NOT live THEN
        SELECT family_id INTO family FROM evidence WHERE phone_number = wanted LIMIT 1;
    END IF;
END $$;

-- How many live contacts a family has, counted no further than `at_most`.
CREATE FUNCTION family_size(root bigint, at_most integer) RETURNS integer
LANGUAGE sql STABLE AS $$
    SELECT 1 + count(*)::integer
    FROM (SELECT FROM contacts WHERE linked_id = root AND deleted_at IS NULL LIMIT at_most) AS counted
$$;

-- The loser's contacts, evidence and aliases go over to the survivor; the graph hears of both. Returns the version.
CREATE FUNCTION unite_families(survivor bigint, loser bigint, request uuid, moment timestamptz) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    new_version bigint := record_change('families_merged', survivor, loser, loser, NULL, request, moment);
BEGIN
    UPDATE contacts SET linked_id = survivor, link_precedence = 'secondary', updated_at = moment
    WHERE (id = loser OR linked_id = loser) AND deleted_at IS NULL;
    UPDATE evidence SET family_id = survivor WHERE family_id = loser;
    PERFORM retire_family(loser, survivor, moment);
    RETURN new_version;
END $$;

-- A family id that is no more: an alias for readers, an outbox row so that the graph buries it.
CREATE FUNCTION retire_family(retired bigint, successor bigint, moment timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    seq bigint := nextval('change_seq');
BEGIN
    UPDATE aliases SET survivor_id = successor WHERE survivor_id = retired;
    INSERT INTO aliases (family_id, survivor_id, version) VALUES (retired, successor, seq)
    ON CONFLICT (family_id) DO UPDATE SET survivor_id = excluded.survivor_id, version = excluded.version;
    INSERT INTO outbox (seq, family_id, queued_at) VALUES (seq, retired, moment);
END $$;

-- One request. The caller holds the write lock, and has made sure that an identifier is present.
-- outcome: CREATED, LINKED, MERGED, MATCHED or REFUSED; reason: why it was refused; answer: the family afterwards.
CREATE FUNCTION identify_one(
    wanted_email text, wanted_phone text, request uuid, family_limit integer,
    OUT outcome text, OUT reason text, OUT answer family_columns
)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    by_email bigint; email_live boolean := false;
    by_phone bigint; phone_live boolean := false;
    home   bigint;
    other  bigint;
    new_contacts integer;
BEGIN
    IF wanted_email IS NOT NULL THEN
        SELECT family, live INTO by_email, email_live FROM find_by_email(wanted_email);
    END IF;
    IF wanted_phone IS NOT NULL THEN
        SELECT family, live INTO by_phone, phone_live FROM find_by_phone(wanted_phone);
    END IF;
    home := coalesce(by_email, by_phone);
    outcome := 'MATCHED';

    IF by_email <> by_phone THEN
        -- A union: the senior family takes the other in, if both fit into one.
        SELECT id INTO STRICT home FROM contacts WHERE id IN (by_email, by_phone)
        ORDER BY created_at, (email IS NULL OR phone_number IS NULL), id LIMIT 1;
        other := CASE home WHEN by_email THEN by_phone ELSE by_email END;
        new_contacts := (NOT ((wanted_email IS NULL OR email_live) AND (wanted_phone IS NULL OR phone_live)))::integer;
        IF family_size(home, family_limit) + family_size(other, family_limit) + new_contacts > family_limit THEN
            outcome := 'REFUSED';
            reason := 'FAMILY_LIMIT';
            PERFORM refuse_union(home, other, request, next_moment());
            answer := read_family(home);
            RETURN;
        END IF;
        PERFORM unite_families(home, other, request, next_moment());
        outcome := 'MERGED';
    END IF;

    IF (wanted_email IS NULL OR email_live) AND (wanted_phone IS NULL OR phone_live) THEN
        -- Nothing new but, perhaps, the pairing.
        PERFORM add_evidence(wanted_email, wanted_phone, home, request, outcome = 'MATCHED');
    ELSIF home IS NULL THEN
        home := add_contact(wanted_email, wanted_phone, NULL, request, next_moment());
        outcome := 'CREATED';
    ELSIF family_size(home, family_limit) >= family_limit THEN
        outcome := 'REFUSED';
        reason := 'FAMILY_LIMIT';
        home := add_apart(wanted_email, wanted_phone, by_email, by_phone, home, request);
    ELSE
        PERFORM add_contact(wanted_email, wanted_phone, home, request, next_moment());
        IF outcome = 'MATCHED' THEN
            outcome := 'LINKED';
        END IF;
    END IF;
    answer := read_family(home);
END $$;

-- A contact row with its event; a primary where `home` is NULL. Returns the contact's id.
CREATE FUNCTION add_contact(
    new_email text, new_phone text, home bigint, request uuid, moment timestamptz
) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    new_id bigint;
BEGIN
    INSERT INTO contacts (email, phone_number, linked_id, link_precedence, created_at, updated_at)
    VALUES (new_email, new_phone, home, CASE WHEN home IS NULL THEN 'primary' ELSE 'secondary' END, moment, moment)
    RETURNING id INTO new_id;
    PERFORM record_change(CASE WHEN home IS NULL THEN 'contact_created' ELSE 'contact_linked' END,
                          coalesce(home, new_id), new_id, NULL, NULL, request, moment);
    RETURN new_id;
END $$;

-- A full family takes no new contact: what the request brought that is new to everyone stands apart, as a family of its
-- own. Returns the family that answers.
CREATE FUNCTION add_apart(
    wanted_email text, wanted_phone text, by_email bigint, by_phone bigint, full_family bigint, request uuid
) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    new_email text := CASE WHEN by_email IS NULL THEN wanted_email END;
    new_phone text := CASE WHEN by_phone IS NULL THEN wanted_phone END;
    apart bigint;
BEGIN
    IF new_email IS NULL AND new_phone IS NULL THEN
        RETURN full_family;
    END IF;
    apart := add_contact(new_email, new_phone, NULL, request, next_moment());
    PERFORM refuse_union(apart, full_family, request, next_moment());
    RETURN apart;
END $$;

-- The pairing of two known identifiers of one family, if no live contact holds it and it is new.
CREATE FUNCTION add_evidence(
    known_email text, known_phone text, home bigint, request uuid, tell boolean
) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    wanted_pairing text := known_email || ' ' || known_phone;  -- NULL where one of them is
    moment timestamptz;
BEGIN
    IF wanted_pairing IS NULL
       OR EXISTS (SELECT FROM contacts
                  WHERE coalesce(email, '') || ' ' || coalesce(phone_number, '') = wanted_pairing
                    AND deleted_at IS NULL)
       OR EXISTS (SELECT FROM evidence WHERE pairing = wanted_pairing) THEN
        RETURN;
    END IF;
    moment := next_moment();
    INSERT INTO evidence (email, phone_number, family_id, request_id, seen_at)
    VALUES (known_email, known_phone, home, request, moment);
    IF tell THEN
        PERFORM record_change('evidence_added', home, NULL, NULL, NULL, request, moment);
    END IF;
END $$;

-- A union that was not made is told, once for each two families.
CREATE FUNCTION refuse_union(home bigint, other bigint, request uuid, moment timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM identity_events
                   WHERE kind = 'union_refused'
                     AND least(family_id, other_family_id) = least(home, other)
                     AND greatest(family_id, other_family_id) = greatest(home, other)) THEN
        PERFORM record_change('union_refused', home, NULL, other, 'FAMILY_LIMIT', request, moment);
    END IF;
END $$;

-- The batch: the lock first, then the requests in order. A request that fails for its data fails alone, and its row
-- says the SQLSTATE; what is the server's trouble (classes 40, 53, 57, 58, XX) fails the call.
CREATE FUNCTION identify_batch_v1(
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
DECLARE
    place integer;
    seq_before bigint;
BEGIN
    PERFORM take_write_lock();
    SELECT last_value INTO seq_before FROM change_seq;
    FOR place IN 1 .. cardinality(wanted_emails) LOOP
        BEGIN
            SELECT one.outcome, one.reason, (one.answer).*
            INTO outcome, reason, family_id, version, contact_ids, emails, phones, created_ats
            FROM identify_one(wanted_emails[place], wanted_phones[place], requests[place], family_limit) AS one;
        EXCEPTION WHEN OTHERS THEN
            IF left(SQLSTATE, 2) IN ('40', '53', '57', '58', 'XX') THEN
                RAISE;
            END IF;
            outcome := 'FAILED'; reason := SQLSTATE;
            family_id := NULL; version := NULL; contact_ids := NULL; emails := NULL; phones := NULL; created_ats := NULL;
        END;
        RETURN NEXT;
    END LOOP;
    IF (SELECT last_value FROM change_seq) <> seq_before THEN
        -- A hint, at most one a commit: the relay polls regardless.
        NOTIFY outbox;
    END IF;
END $$;
