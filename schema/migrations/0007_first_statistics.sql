-- First statistics. A planner that knows nothing of a fresh table takes `deleted_at IS NULL` to be rare, and then reads
-- any partial index from end to end instead of probing the right one: at 5,000 contacts identify took four times as long,
-- until autovacuum came by. So: rows of the usual shape, ANALYZE, and away with them. The statistics stay until real rows
-- bring better ones. A record that holds a single row is left as it is: autovacuum knows it, or will.
DO $$
BEGIN
    -- No row comes in between the question and TRUNCATE.
    LOCK TABLE contacts, evidence, identity_events, outbox, aliases IN ACCESS EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM contacts) OR EXISTS (SELECT FROM evidence) OR EXISTS (SELECT FROM identity_events)
       OR EXISTS (SELECT FROM outbox) OR EXISTS (SELECT FROM aliases) THEN
        RETURN;
    END IF;

    INSERT INTO contacts (email, phone_number, linked_id, link_precedence)
    SELECT 'person' || n || '@first.example', '+1' || (2000000000 + n), NULL, 'primary'
    FROM generate_series(1, 1000) AS n;
    INSERT INTO contacts (email, phone_number, linked_id, link_precedence)
    SELECT 'second' || n || '@first.example', '+1' || (3000000000 + n), (SELECT min(id) FROM contacts) + n % 1000,
           'secondary'
    FROM generate_series(1, 1000) AS n;
    INSERT INTO evidence (email, phone_number, family_id, seen_at)
    SELECT 'person' || n || '@first.example', '+1' || (3000000000 + n), n, now() FROM generate_series(1, 1000) AS n;
    INSERT INTO identity_events (seq, at, kind, family_id, contact_id)
    SELECT n, now(), 'contact_created', n % 500, n FROM generate_series(1, 1000) AS n;
    INSERT INTO outbox (seq, family_id, queued_at) SELECT n, n % 500, now() FROM generate_series(1, 1000) AS n;
    INSERT INTO aliases (family_id, survivor_id, version) SELECT n, n + 1, n FROM generate_series(1, 1000) AS n;

    ANALYZE contacts, evidence, identity_events, outbox, aliases;
    -- TRUNCATE, not DELETE: it leaves the size unknown, not zero, and an unknown size is taken for ten pages.
    TRUNCATE contacts, evidence, identity_events, outbox, aliases RESTART IDENTITY;
END $$;
