-- The rights of each process: connections take one of these roles after the login. nexus_api reads and calls the verbs,
-- and has no direct DML on contacts. nexus_relay reads and works off the outbox. nexus_import writes many decisions at
-- once (nexus_graph/bulk/), holding the same write lock as identify: it may add rows and re-point those of a family
-- that lost a union, and deletes nothing.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['nexus_api', 'nexus_relay', 'nexus_import'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- roles belong to the server: another database of it made them
        END;
        EXECUTE format('GRANT %I TO CURRENT_USER', wanted);
    END LOOP;
END $$;

GRANT USAGE ON SCHEMA public TO nexus_api, nexus_relay, nexus_import;

GRANT SELECT ON contacts, evidence, identity_events, outbox, aliases TO nexus_api, nexus_relay, nexus_import;
GRANT SELECT ON schema_migrations, relay_lease TO nexus_api, nexus_relay;

REVOKE EXECUTE ON FUNCTION identify_in_turn, identify_together, renormalize_identifiers FROM PUBLIC;
GRANT EXECUTE ON FUNCTION identify_in_turn, identify_together TO nexus_api, nexus_import;
GRANT EXECUTE ON FUNCTION renormalize_identifiers TO nexus_import;

GRANT UPDATE, DELETE ON outbox TO nexus_relay;
GRANT INSERT, UPDATE ON relay_lease TO nexus_relay;

GRANT INSERT ON contacts, evidence, identity_events, outbox, aliases TO nexus_import;
GRANT UPDATE (linked_id, link_precedence, updated_at) ON contacts TO nexus_import;
GRANT UPDATE (family_id) ON evidence TO nexus_import;
GRANT UPDATE (survivor_id, version) ON aliases TO nexus_import;
GRANT USAGE ON SEQUENCE contacts_id_seq, change_seq TO nexus_import;
