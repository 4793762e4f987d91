-- What each process may do, whoever it logs in as: connections take one of these roles.
-- nexus_api reads and calls the verbs, and has no direct DML on contacts; nexus_relay reads and works off the outbox.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['nexus_api', 'nexus_relay'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- roles belong to the server: another database of it made them
        END;
        EXECUTE format('GRANT %I TO CURRENT_USER', wanted);
    END LOOP;
END $$;

GRANT USAGE ON SCHEMA public TO nexus_api, nexus_relay;
GRANT SELECT ON contacts, evidence, identity_events, outbox, aliases TO nexus_api, nexus_relay;
GRANT UPDATE, DELETE ON outbox TO nexus_relay;
GRANT SELECT ON schema_migrations TO nexus_api, nexus_relay;

REVOKE EXECUTE ON FUNCTION identify_batch_v1 FROM PUBLIC;
GRANT EXECUTE ON FUNCTION identify_batch_v1 TO nexus_api;
