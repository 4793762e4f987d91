-- API keys: who holds one, what the holder may do, and until when. The secret itself stands nowhere: a key is checked
-- against the SHA-256 of its secret, and nobody finds 256 random bits from their hash.
CREATE TABLE api_keys (
    id           text COLLATE "C" PRIMARY KEY CHECK (id ~ '^[0-9a-f]{12}$'),
    name         text NOT NULL CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$'),
    roles        text[] NOT NULL CHECK (cardinality(roles) > 0),
    secret_hash  bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
    created_at   timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
    expires_at   timestamptz,
    revoked_at   timestamptz,
    -- The beginning of the hour in which the key last let a caller in.
    last_used_at timestamptz,
    -- The key that a rotation made in place of this one.
    successor_id text COLLATE "C" REFERENCES api_keys (id),
    -- When the key stopped to work, or will stop; NULL: never.
    ended_at     timestamptz GENERATED ALWAYS AS (least(expires_at, revoked_at)) STORED
);
-- Keys that work come first, then those that ended last: processes hold so many of them as they have room for.
CREATE INDEX api_keys_ended ON api_keys (ended_at DESC NULLS FIRST);

-- One row, whose version every change of a key raises. Its lock belongs to the changing transaction until the commit, so
-- versions become visible in order, and a process that has read the keys of a version has seen every change up to it.
CREATE TABLE api_keys_version (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version  bigint NOT NULL
);
INSERT INTO api_keys_version (version) VALUES (0);

CREATE FUNCTION note_change_of_keys() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE api_keys_version SET version = version + 1;
    NOTIFY api_keys;
    RETURN NULL;
END $$;

-- Not of last_used_at, which changes nothing about who may come in.
CREATE TRIGGER api_keys_note_change
    AFTER INSERT OR DELETE OR UPDATE OF id, name, roles, secret_hash, created_at, expires_at, revoked_at, successor_id
    ON api_keys FOR EACH STATEMENT EXECUTE FUNCTION note_change_of_keys();
CREATE TRIGGER api_keys_note_truncation AFTER TRUNCATE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION note_change_of_keys();

-- The API checks keys and notes their use. Keys are made and revoked by the schema's owner (`nexus-graph keys`).
GRANT SELECT ON api_keys, api_keys_version TO nexus_api;
GRANT UPDATE (last_used_at) ON api_keys TO nexus_api;
