-- Soft deletion: `UPDATE contacts SET deleted_at = now() WHERE id = …` is the verb, and the table keeps itself right.
-- The contact's tie stays as evidence, so the family holds together; a family without its primary promotes its next most
-- senior; the change gets an event and an outbox row like any other.

CREATE FUNCTION lock_before_soft_delete() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    -- Before any row is locked: the lock order of every writer.
    PERFORM take_write_lock();
    RETURN NULL;
END $$;

CREATE TRIGGER contacts_lock_before_soft_delete BEFORE UPDATE OF deleted_at ON contacts
    FOR EACH STATEMENT EXECUTE FUNCTION lock_before_soft_delete();

CREATE FUNCTION refuse_revival() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'contact % was deleted; identify it again instead of reviving the row', OLD.id
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER contacts_refuse_revival BEFORE UPDATE OF deleted_at ON contacts
    FOR EACH ROW WHEN (OLD.deleted_at IS NOT NULL AND NEW.deleted_at IS NULL)
    EXECUTE FUNCTION refuse_revival();

-- The most senior live secondary takes the place of `former`. NULL if there is none: the family is gone.
CREATE FUNCTION promote_heir(former bigint, moment timestamptz) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    heir bigint;
BEGIN
    SELECT id INTO heir FROM contacts WHERE linked_id = former AND deleted_at IS NULL
    ORDER BY created_at, (email IS NULL OR phone_number IS NULL), id LIMIT 1;
    IF heir IS NULL THEN
        DELETE FROM evidence WHERE family_id = former;
        RETURN NULL;
    END IF;
    DELETE FROM aliases WHERE family_id = heir;
    UPDATE contacts SET linked_id = NULL, link_precedence = 'primary', updated_at = moment WHERE id = heir;
    PERFORM record_change('primary_promoted', heir, heir, former, NULL, NULL, moment);
    PERFORM retire_family(former, heir, moment);
    RETURN heir;
END $$;

CREATE FUNCTION settle_soft_delete() RETURNS trigger
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
DECLARE
    moment timestamptz := next_moment();
    -- One statement may delete a primary and its secondaries: by now the family may have another head, or be gone.
    home bigint := coalesce((SELECT survivor_id FROM aliases WHERE family_id = coalesce(OLD.linked_id, OLD.id)),
                            OLD.linked_id, OLD.id);
BEGIN
    IF OLD.email IS NOT NULL AND OLD.phone_number IS NOT NULL THEN
        INSERT INTO evidence (email, phone_number, family_id, seen_at)
        VALUES (OLD.email, OLD.phone_number, home, OLD.created_at) ON CONFLICT DO NOTHING;
    END IF;
    IF NOT EXISTS (SELECT FROM contacts WHERE id = home AND deleted_at IS NULL) THEN
        home := coalesce(promote_heir(home, moment), home);
    END IF;
    PERFORM record_change('contact_deleted', home, OLD.id, NULL, NULL, NULL, next_moment());
    NOTIFY outbox;
    RETURN NULL;
END $$;

CREATE TRIGGER contacts_settle_soft_delete AFTER UPDATE OF deleted_at ON contacts
    FOR EACH ROW WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL)
    EXECUTE FUNCTION settle_soft_delete();
