-- Idempotency-Key (nexus_graph/identity/ordered.py): the answer to a write that named a key, for a caller who sends the same
-- request with the same key again. Key, hash and answer are stored by the transaction of the write, so either all of them
-- are there or nothing was written. Like contacts, the answers hold identifiers; each is deleted once it has expired.
CREATE TABLE idempotency_keys (
    principal    text NOT NULL CHECK (length(principal) <= 80),
    -- SHA-256 of the key, whatever a caller put into it, and of the path and body that came with it.
    key_hash     bytea NOT NULL CHECK (octet_length(key_hash) = 32),
    request_hash bytea NOT NULL CHECK (octet_length(request_hash) = 32),
    -- For each row outcome, reason, version and contact_ids of identify_together, and emails, phones, created_ats where the
    -- answer shows them.
    answer       json NOT NULL,
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (principal, key_hash)
);
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);

-- identify_together, once for each key. state: DECIDED now; REPLAYED, with the answer of the first time; BUSY while another
-- transaction decides by this key; OTHER_REQUEST if the key came with another request before. There is an answer with
-- the first two. Where a row fails for its data, all fails and the key is free.
-- An answer shows the family of its first row, and of others while all before have `shown` contacts together at most.
-- The key's lock is not waited for, so no order of locks is needed: it is taken before the write lock, or not at all.
CREATE FUNCTION identify_once(
    caller text, wanted_key bytea, wanted_request bytea, seconds double precision, key_lock bigint,
    wanted_emails text[], wanted_phones text[], requests uuid[], family_limit integer, few integer, shown integer
) RETURNS TABLE (state text, answer json)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = public, pg_temp
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    found_request bytea;
    found_expiry  timestamptz;
BEGIN
    IF NOT pg_try_advisory_xact_lock(key_lock) THEN
        RETURN QUERY SELECT 'BUSY', NULL::json;
        RETURN;
    END IF;
    -- A statement after the lock sees what its last holder committed.
    SELECT kept.request_hash, kept.expires_at, kept.answer INTO found_request, found_expiry, answer
    FROM idempotency_keys AS kept WHERE kept.principal = caller AND kept.key_hash = wanted_key;
    IF found_expiry > clock_timestamp() THEN
        state := CASE WHEN found_request = wanted_request THEN 'REPLAYED' ELSE 'OTHER_REQUEST' END;
        IF state = 'OTHER_REQUEST' THEN
            answer := NULL;
        END IF;
        RETURN NEXT;
        RETURN;
    END IF;
    SELECT coalesce(json_agg(CASE WHEN sum <= shown OR place = 1
                                 THEN json_build_array(outcome, reason, version, contact_ids, emails, phones, created_ats)
                                 ELSE json_build_array(outcome, reason, version, contact_ids) END
                             ORDER BY place), '[]')
    INTO answer
    FROM (SELECT decided.*, sum(cardinality(contact_ids)) OVER (ORDER BY place)
          FROM identify_together(wanted_emails, wanted_phones, requests, family_limit, few) WITH ORDINALITY
               AS decided (outcome, reason, family_id, version, contact_ids, emails, phones, created_ats, place)) AS rows;
    INSERT INTO idempotency_keys (principal, key_hash, request_hash, answer, expires_at)
    VALUES (caller, wanted_key, wanted_request, answer, clock_timestamp() + make_interval(secs => seconds))
    ON CONFLICT (principal, key_hash) DO UPDATE
    SET request_hash = excluded.request_hash, answer = excluded.answer, expires_at = excluded.expires_at;
    state := 'DECIDED';
    RETURN NEXT;
END $$;

-- Delete answers that have expired, a bounded number at once. Returns how many. Relies on idempotency_keys_expiry.
CREATE FUNCTION expire_idempotency_keys(most integer) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = public, pg_temp
SET enable_seqscan = off
AS $$
    WITH expired AS (
        SELECT principal, key_hash FROM idempotency_keys
        WHERE expires_at <= clock_timestamp()
        ORDER BY expires_at LIMIT most FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM idempotency_keys USING expired
        WHERE idempotency_keys.principal = expired.principal AND idempotency_keys.key_hash = expired.key_hash
        RETURNING 1
    )
    SELECT count(*) FROM gone
$$;

REVOKE EXECUTE ON FUNCTION identify_once, expire_idempotency_keys FROM PUBLIC;
GRANT EXECUTE ON FUNCTION identify_once, expire_idempotency_keys TO nexus_api;
