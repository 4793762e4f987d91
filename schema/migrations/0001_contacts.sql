-- The record: contacts, the ties beyond them, what happened, and what the graph has still to hear.
--
-- Lock order: every writer takes the write lock (take_write_lock) before it reads what it decides on. Lock order is
-- commit order is id order is sequence order, which keeps everything downstream simple. docs/adr/0001.

-- The user's table. A family is one primary and the secondaries whose linked_id is that primary: flat, never a chain.
CREATE TABLE contacts (
    id              bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    email           varchar(255),
    phone_number    varchar(20),
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
CREATE SEQUENCE change_seq CACHE 1;

-- Append-only: the audit trail, the timeline and the change feed. Ids only, never an identifier.
CREATE TABLE identity_events (
    seq             bigint PRIMARY KEY,
    at              timestamptz NOT NULL,
    kind            text NOT NULL CHECK (kind IN (
                        'contact_created', 'contact_linked', 'families_merged', 'evidence_added', 'union_refused',
                        'contact_deleted', 'primary_promoted')),
    family_id       bigint NOT NULL,
    contact_id      bigint,
    other_family_id bigint,
    cause           text,
    actor           text,
    request_id      uuid
);
-- Newest first. On (-seq), so that no plan for "this family's newest event" can walk the primary key instead.
CREATE INDEX identity_events_family ON identity_events (family_id, (-seq));
-- A refusal is told once: the same request again changes nothing.
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
