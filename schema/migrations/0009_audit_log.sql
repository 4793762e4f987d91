-- The audit trail: who did what, when, with what outcome, to which families. No identifier of a person stands in it.
--
-- Entries form one chain for the whole record: the hash of each covers its own fields as they are stored and the hash of
-- the entry before. Each process appends its entries in batches; audit_head has one row, which a batch locks and updates in
-- the statement that stores it. So there is one order, no fork, and no search for the newest entry. Two batches wait for
-- each other for a few milliseconds, and no writer of contacts waits for either (docs/adr/0009-audit-chain.md).

CREATE TABLE audit_log (
    seq        bigint NOT NULL,
    -- When the batch was stored, by this server's clock, and never before an earlier entry: months hold whole stretches of
    -- the chain.
    stored_at  timestamptz NOT NULL,
    -- When the caller was answered, by the clock of the process that answered.
    at         timestamptz NOT NULL,
    who        text COLLATE "C" NOT NULL,
    what       text COLLATE "C" NOT NULL,
    outcome    text COLLATE "C" NOT NULL,
    -- The principal that the call was about, such as a key that was revoked.
    subject    text COLLATE "C",
    request_id uuid,
    family_ids bigint[] NOT NULL,
    -- What `what` counts: entries lost, or the last entry that a retention dropped.
    amount     bigint,
    hash       bytea NOT NULL,
    PRIMARY KEY (stored_at, seq),
    -- Letters and hyphens, or the name of a principal: neither an email nor a phone has such a form. Lengths stand apart,
    -- as {1,40} in an expression would cost eight times as much.
    CONSTRAINT audit_who     CHECK (who IN ('anonymous', 'system', 'command')
                                    OR (octet_length(who) = 16 AND who ~ '^key:[0-9a-f]+$')
                                    OR (octet_length(who) = 37 AND who ~ '^user:[0-9a-f]+$')),
    CONSTRAINT audit_what    CHECK (what ~ '^[a-z-]+$' AND octet_length(what) <= 40),
    CONSTRAINT audit_outcome CHECK (outcome ~ '^[a-z-]+$' AND octet_length(outcome) <= 40),
    CONSTRAINT audit_subject CHECK ((octet_length(subject) = 16 AND subject ~ '^key:[0-9a-f]+$')
                                    OR (octet_length(subject) = 37 AND subject ~ '^user:[0-9a-f]+$')),
    CONSTRAINT audit_hash    CHECK (octet_length(hash) = 32)
) PARTITION BY RANGE (stored_at);

-- The end of the chain.
CREATE TABLE audit_head (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    seq       bigint NOT NULL,
    hash      bytea NOT NULL CHECK (octet_length(hash) = 32),
    stored_at timestamptz NOT NULL
);

-- What is left of entries that a retention dropped: the chain up to seq ended with this hash. The first stub is the
-- beginning of the chain, which no other database shares.
CREATE TABLE audit_stubs (
    seq     bigint PRIMARY KEY,
    hash    bytea NOT NULL CHECK (octet_length(hash) = 32),
    made_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO audit_stubs (seq, hash) VALUES (0, sha256(convert_to('nexus_graph', 'UTF8') || uuid_send(gen_random_uuid())));
INSERT INTO audit_head (seq, hash, stored_at) SELECT seq, hash, made_at FROM audit_stubs;

-- The last batch of each process: a batch whose answer was lost is sent again, and stored once.
CREATE TABLE audit_writers (
    writer    uuid PRIMARY KEY,
    batch     bigint NOT NULL,
    stored_at timestamptz NOT NULL
);

-- Nobody changes what is stored. The owner can take these triggers away; then a head kept elsewhere shows the change.
CREATE FUNCTION audit_refuse() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit trail is only appended to' USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE FUNCTION audit_only_grows() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.seq <= OLD.seq OR NEW.stored_at < OLD.stored_at THEN
        RAISE EXCEPTION 'the head of the audit trail only grows' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER audit_log_keeps     BEFORE UPDATE OR DELETE ON audit_log    FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_log_stays     BEFORE TRUNCATE ON audit_log      FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_stubs_keep    BEFORE UPDATE OR DELETE ON audit_stubs  FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_stubs_stay    BEFORE TRUNCATE ON audit_stubs    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_head_grows    BEFORE UPDATE ON audit_head       FOR EACH ROW EXECUTE FUNCTION audit_only_grows();
CREATE TRIGGER audit_head_keeps    BEFORE DELETE ON audit_head       FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_head_stays    BEFORE TRUNCATE ON audit_head     FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();

-- The table of a month, by UTC, if there is none yet. It is attached when it stands: that waits for no reader and keeps no
-- other batch waiting, where CREATE TABLE … PARTITION OF would wait for every export under way.
CREATE FUNCTION audit_make_month(month timestamp) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    first text := to_char(month, 'YYYY-MM-01 "00:00+00"');
    past  text := to_char(month + interval '1 month', 'YYYY-MM-01 "00:00+00"');
    name  text := to_char(month, '"audit_log_"YYYY_MM');
BEGIN
    IF to_regclass(name) IS NULL THEN
        EXECUTE format('CREATE TABLE %I (LIKE audit_log INCLUDING CONSTRAINTS)', name);
        EXECUTE format('CREATE TRIGGER audit_log_stays BEFORE TRUNCATE ON %I EXECUTE FUNCTION audit_refuse()', name);
        EXECUTE format('ALTER TABLE audit_log ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, first, past);
    END IF;
END $$;

-- The hash of an entry: SHA-256 of the hash before, 32 bytes, and of the entry in the binary format of a row: the number of
-- fields, then each field's type, length and bytes. Over a window it links entry to entry.
CREATE FUNCTION audit_linked(link bytea, first_link bytea, entry bytea) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN sha256(coalesce(link, first_link) || entry);
END $$;
CREATE AGGREGATE audit_link(first_link bytea, entry bytea) (SFUNC = audit_linked, STYPE = bytea);

-- Store a batch of entries, in order; the arrays are as long as each other and not empty. Returns the new head.
-- writer, batch: a batch of a number that this writer has stored already is not stored again; without a writer, it is.
-- families: each a literal of bigint[]. ats: microseconds since 1970.
CREATE FUNCTION audit_append(
    writer uuid, batch bigint, whos text[], whats text[], outcomes text[], subjects text[], requests uuid[],
    families text[], ats bigint[], amounts bigint[], OUT head_seq bigint, OUT head_hash bytea
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    head   audit_head;
    moment timestamptz;
BEGIN
    SELECT * INTO head FROM audit_head FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the audit trail has no head' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    moment := greatest(clock_timestamp(), head.stored_at);
    IF audit_append.writer IS NOT NULL THEN
        INSERT INTO audit_writers AS known (writer, batch, stored_at)
        VALUES (audit_append.writer, audit_append.batch, moment)
        ON CONFLICT (writer) DO UPDATE SET batch = excluded.batch, stored_at = excluded.stored_at
        WHERE known.batch < excluded.batch;
        IF NOT FOUND THEN
            head_seq := head.seq;
            head_hash := head.hash;
            RETURN;
        END IF;
        IF audit_append.batch = 1 THEN
            -- Processes that ended send nothing again.
            DELETE FROM audit_writers WHERE stored_at < moment - interval '7 days';
        END IF;
    END IF;
    -- The next month is there before it begins; this one is missing only after a month without an entry.
    PERFORM audit_make_month(moment AT TIME ZONE 'UTC');
    PERFORM audit_make_month(moment AT TIME ZONE 'UTC' + interval '1 month');
    WITH given AS (
        SELECT n, head.seq + n AS seq, least(timestamptz 'epoch' + at * interval '1 microsecond', moment) AS at, who, what,
               outcome, subject, request_id, family_ids::bigint[] AS family_ids, amount
        FROM unnest(whos, whats, outcomes, subjects, requests, families, ats, amounts) WITH ORDINALITY
             AS entry (who, what, outcome, subject, request_id, family_ids, at, amount, n)
    ), added AS (
        INSERT INTO audit_log (
            seq, stored_at, at, who, what, outcome, subject, request_id, family_ids, amount, hash
        )
        SELECT seq, moment, at, who, what, outcome, subject, request_id, family_ids, amount,
               audit_link(head.hash, record_send(ROW(
                   seq, moment, at, who, what, outcome, subject, request_id, family_ids, amount
               ))) OVER (ORDER BY n)
        FROM given
        RETURNING seq, hash
    )
    UPDATE audit_head SET seq = added.seq, hash = added.hash, stored_at = moment
    FROM added WHERE added.seq = head.seq + cardinality(whos)
    RETURNING added.seq, added.hash INTO head_seq, head_hash;
END $$;

-- Drop the months before this one, whose entries end with this seq and this hash; keep a stub of them, and an entry that
-- tells of it. Returns the names of what was dropped. The caller has verified the entries.
CREATE FUNCTION audit_retain(first_month timestamp, last_seq bigint, last_hash bytea) RETURNS text[]
LANGUAGE plpgsql AS $$
DECLARE
    name    text;
    dropped text[] := '{}';
BEGIN
    PERFORM FROM audit_head FOR UPDATE;
    FOR name IN
        SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'audit_log'::regclass AND relname < to_char(first_month, '"audit_log_"YYYY_MM') ORDER BY relname
    LOOP
        EXECUTE format('DROP TABLE %I', name);
        dropped := dropped || name;
    END LOOP;
    IF EXISTS (SELECT FROM audit_log WHERE seq <= last_seq) THEN
        RAISE EXCEPTION 'an entry past these months belongs to what would be dropped';
    END IF;
    IF last_seq > (SELECT max(seq) FROM audit_stubs) THEN
        INSERT INTO audit_stubs (seq, hash) VALUES (last_seq, last_hash);
        PERFORM audit_append(
            NULL, NULL, ARRAY['command'], ARRAY['audit-retain'], ARRAY['changed'], ARRAY[NULL], ARRAY[NULL::uuid],
            ARRAY['{}'], ARRAY[(extract(epoch FROM clock_timestamp()) * 1000000)::bigint], ARRAY[last_seq]
        );
    END IF;
    RETURN dropped;
END $$;

-- Processes append, and do nothing else; the schema's owner reads, verifies and drops months.
REVOKE EXECUTE ON FUNCTION audit_append, audit_retain, audit_make_month FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_append TO nexus_api, nexus_relay, nexus_import;
