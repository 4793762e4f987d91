-- The login by which pgbouncer reaches the record for the API, where NEXUS_PGBOUNCER is set. In transaction mode nobody
-- can give a session its settings as it begins, so this login brings them, and acts as nexus_api and no more. The API
-- compares them with its own settings at its start, and refuses to start where they differ.
--
-- Run it as the record's owner, once `nexus-graph migrate` has made the role nexus_api:
--   psql "$DATABASE_DIRECT_URL" --file deploy/pgbouncer/login.sql --command '\password nexus_pooled'
-- Sessions that pgbouncer holds keep what they had: say RECONNECT in its console.
DO $$
BEGIN
    CREATE ROLE nexus_pooled LOGIN NOINHERIT;
EXCEPTION WHEN duplicate_object THEN
    NULL;
END $$;

GRANT nexus_api TO nexus_pooled;
ALTER ROLE nexus_pooled SET role = 'nexus_api';
-- How long a session waits for the write lock, 5 s everywhere, and NEXUS_STATEMENT_TIMEOUT_SECONDS twice.
ALTER ROLE nexus_pooled SET lock_timeout = '5s';
ALTER ROLE nexus_pooled SET statement_timeout = '8s';
ALTER ROLE nexus_pooled SET idle_in_transaction_session_timeout = '8s';
ALTER ROLE nexus_pooled SET default_transaction_isolation = 'read committed';
-- Each statement is served by an index it names, and planned alike whatever its parameters.
ALTER ROLE nexus_pooled SET enable_seqscan = 'off';
ALTER ROLE nexus_pooled SET plan_cache_mode = 'force_generic_plan';
ALTER ROLE nexus_pooled SET jit = 'off';
