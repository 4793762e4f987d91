-- The record: contacts, the ties beyond them, what happened, and what the graph has still to hear; the lock that every
-- writer takes, and how a change is written down.

-- The user's table. A family is one primary and the secondaries whose linked_id is that primary: flat, never a chain.
CREATE TABLE contacts (
    id              bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    -- Identifiers are compared by their code points, whatever language the database was made for: the indexes that find
    -- an identifier then also find all that begin alike, and every comparison is the cheapest there is.
    email           varchar(255) COLLATE "C",
    phone_number    varchar(20) COLLATE "C",
    linked_id       bigint REFERENCES contacts (id),
    link_precedence varchar(20) NOT NULL CHECK (link_precedence IN ('primary', 'secondary')),
    created_at      timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at      timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
    deleted_at      timestamptz,
    CONSTRAINT contacts_name_someone CHECK (email IS NOT NULL OR phone_number IS NOT NULL),
    CONSTRAINT contacts_primary_has_no_link CHECK ((link_precedence = 'primary') = (linked_id IS NULL)),
    CONSTRAINT contacts_not_linked_to_itself CHECK (linked_id <> id)
);

CREATE INDEX idx_contacts_email      ON contacts (email)           WHERE deleted_at IS NULL;
CREATE INDEX idx_contacts_phone      ON contacts (phone_number)    WHERE deleted_at IS NULL;
CREATE INDEX idx_contacts_linked_id  ON contacts (linked_id)       WHERE deleted_at IS NULL;
CREATE INDEX idx_contacts_precedence ON contacts (link_precedence) WHERE deleted_at IS NULL;
-- For lists by time.
CREATE INDEX contacts_made           ON contacts (created_at, id)  WHERE deleted_at IS NULL;
-- A pairing is one live contact: a safety net under identify, and its question "is this pairing known?". It is an index
-- on one expression (no identifier holds a space), because a planner without statistics would use one on two columns to
-- look for a phone alone, and read all of it.
CREATE UNIQUE INDEX contacts_pairing ON contacts ((coalesce(email, '') || ' ' || coalesce(phone_number, '')))
    WHERE deleted_at IS NULL;

-- Ties that no live contact row holds: a request that named a known email with a known phone, or the pairing of a
-- contact that was soft-deleted. Without them a union would leave no trace that a traversal could follow.
CREATE TABLE evidence (
    email        varchar(255) NOT NULL,
    phone_number varchar(20)  NOT NULL,
    family_id    bigint       NOT NULL,
    request_id   uuid,
    seen_at      timestamptz  NOT NULL,
    pairing      text GENERATED ALWAYS AS (email || ' ' || phone_number) STORED PRIMARY KEY
);
CREATE INDEX evidence_email  ON evidence (email);
CREATE INDEX evidence_phone  ON evidence (phone_number);
CREATE INDEX evidence_family ON evidence (family_id);

-- One sequence numbers events and outbox rows alike; a family's version is the number of its newest event.
-- It shows 0, the change before the first, where none was made yet; a sequence made plainly would show 1 before and after.
CREATE SEQUENCE change_seq MINVALUE 0 START 1 CACHE 1;
SELECT setval('change_seq', 0);

-- Append-only: the audit trail, the timeline and the change feed. Ids only, never an identifier.
CREATE TABLE identity_events (
    seq             bigint PRIMARY KEY,
    at              timestamptz NOT NULL,
    kind            text NOT NULL CHECK (kind IN (
                        'contact_created', 'contact_linked', 'families_merged', 'evidence_added', 'union_refused',
                        'contact_deleted', 'primary_promoted', 'identifier_renormalized')),
    family_id       bigint NOT NULL,
    contact_id      bigint,
    other_family_id bigint,
    cause           text,
    actor           text,
    request_id      uuid
);
-- Newest first. On (-seq), so that no plan for "this family's newest event" can walk the primary key instead.
CREATE INDEX identity_events_family ON identity_events (family_id, (-seq));
-- An event records a refusal once: the same request again changes nothing.
CREATE UNIQUE INDEX identity_events_refusal
    ON identity_events (least(family_id, other_family_id), greatest(family_id, other_family_id))
    WHERE kind = 'union_refused';

-- Dirty families. A row says "look at this family again"; its seq is the version the graph will then have at least.
CREATE TABLE outbox (
    seq         bigint PRIMARY KEY,
    family_id   bigint NOT NULL,
    queued_at   timestamptz NOT NULL,
    attempts    smallint NOT NULL DEFAULT 0,
    next_try_at timestamptz,
    last_error  text,
    parked_at   timestamptz
);
-- The few rows that wait for another try or are parked.
CREATE INDEX outbox_troubled ON outbox (family_id) WHERE attempts > 0;
-- The queue is nearly always short: let autovacuum see every row of it.
ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 10000);

-- A family id that is no more, and the family that took its contacts in: transitive, for ever.
CREATE TABLE aliases (
    family_id   bigint PRIMARY KEY,
    survivor_id bigint NOT NULL,
    version     bigint NOT NULL
);
CREATE INDEX aliases_survivor ON aliases (survivor_id);

-- Which relay is the active one, by the server's clock: it renews its lease, and another takes over where that has run out
-- or its session is gone (docs/adr/0006-relay-lease.md). Unlogged: a lease does not outlive a crash of the server, nor does
-- the session behind it; and renewing it writes no log.
CREATE UNLOGGED TABLE relay_lease (
    key        bigint PRIMARY KEY,
    holder     uuid NOT NULL,
    pid        integer NOT NULL,
    renewed_at timestamptz NOT NULL
);

-- The one lock of all writers: each takes it before it reads what it decides on. Lock order is commit order is id order is
-- sequence order, which keeps everything downstream simple. docs/adr/0001. The key is "nexus" in ASCII.
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
