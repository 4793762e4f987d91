-- The role of `nexus-graph import`: it writes many decisions at once (nexus_graph/identity/import_*.py), holding the same
-- write lock as identify. It may add rows and re-point those of a family that lost a union; it deletes nothing.
DO $$
BEGIN
    BEGIN
        CREATE ROLE nexus_import NOLOGIN;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL;  -- roles belong to the server: another database of it made them
    END;
    GRANT nexus_import TO CURRENT_USER;
END $$;

GRANT USAGE ON SCHEMA public TO nexus_import;
GRANT SELECT, INSERT ON contacts, evidence, identity_events, outbox, aliases TO nexus_import;
GRANT UPDATE (linked_id, link_precedence, updated_at) ON contacts TO nexus_import;
GRANT UPDATE (family_id) ON evidence TO nexus_import;
GRANT UPDATE (survivor_id, version) ON aliases TO nexus_import;
GRANT USAGE ON SEQUENCE contacts_id_seq, change_seq TO nexus_import;
GRANT EXECUTE ON FUNCTION identify_batch_v1, identify_batch_v2 TO nexus_import;
