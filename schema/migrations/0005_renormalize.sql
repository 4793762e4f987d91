-- renormalize: an identifier that an older rule wrote is written as today's rule writes it, wherever it stands, and families
-- that are one by that are united, as identify would unite them. `nexus-graph renormalize` gives the old and new values.

-- Of two live contacts that would have the same email and phone, as one carries the old email, the junior is soft-deleted:
-- a pairing is one live contact. Relies on idx_contacts_email, contacts_pairing. Returns how many.
CREATE FUNCTION retire_twins_by_email(old_email text, new_email text, moment timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    junior bigint;
    retired integer := 0;
BEGIN
    FOR junior IN
        SELECT CASE WHEN (mine.created_at, mine.id) > (theirs.created_at, theirs.id) THEN mine.id ELSE theirs.id END
        FROM contacts AS mine
        CROSS JOIN LATERAL contact_with_pairing(new_email, mine.phone_number) AS theirs
        WHERE mine.email = old_email AND mine.deleted_at IS NULL
    LOOP
        UPDATE contacts SET deleted_at = moment WHERE id = junior;
        retired := retired + 1;
    END LOOP;
    RETURN retired;
END $$;

-- The same by phone. Relies on idx_contacts_phone, contacts_pairing.
CREATE FUNCTION retire_twins_by_phone(old_phone text, new_phone text, moment timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    junior bigint;
    retired integer := 0;
BEGIN
    FOR junior IN
        SELECT CASE WHEN (mine.created_at, mine.id) > (theirs.created_at, theirs.id) THEN mine.id ELSE theirs.id END
        FROM contacts AS mine
        CROSS JOIN LATERAL contact_with_pairing(mine.email, new_phone) AS theirs
        WHERE mine.phone_number = old_phone AND mine.deleted_at IS NULL
    LOOP
        UPDATE contacts SET deleted_at = moment WHERE id = junior;
        retired := retired + 1;
    END LOOP;
    RETURN retired;
END $$;

-- An email, or a phone, is rewritten on the live contacts that carry it and in the evidence. Evidence that another
-- piece of it, or by now a live contact, says as well goes. Relies on idx_contacts_email/_phone, evidence_email/_phone,
-- evidence_pkey, contacts_pairing.
CREATE FUNCTION rewrite_email(old_email text, new_email text, moment timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    UPDATE contacts SET email = new_email, updated_at = moment WHERE email = old_email AND deleted_at IS NULL;
    DELETE FROM evidence AS mine WHERE email = old_email
        AND EXISTS (SELECT FROM evidence WHERE pairing = new_email || ' ' || mine.phone_number);
    UPDATE evidence SET email = new_email WHERE email = old_email;
    DELETE FROM evidence AS mine WHERE email = new_email
        AND EXISTS (SELECT FROM contact_with_pairing(mine.email, mine.phone_number));
END $$;

CREATE FUNCTION rewrite_phone(old_phone text, new_phone text, moment timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    UPDATE contacts SET phone_number = new_phone, updated_at = moment WHERE phone_number = old_phone AND deleted_at IS NULL;
    DELETE FROM evidence AS mine WHERE phone_number = old_phone
        AND EXISTS (SELECT FROM evidence WHERE pairing = mine.email || ' ' || new_phone);
    UPDATE evidence SET phone_number = new_phone WHERE phone_number = old_phone;
    DELETE FROM evidence AS mine WHERE phone_number = new_phone
        AND EXISTS (SELECT FROM contact_with_pairing(mine.email, mine.phone_number));
END $$;

-- One identifier. The caller holds the write lock.
-- outcome: CHANGED; MERGED (with another family, that carries the new value); REFUSED (that union would pass the family
-- limit: the identifier stays as it was); GONE (the old value is no longer there). home: the family afterwards.
CREATE FUNCTION renormalize_one(
    is_email boolean, old_value text, new_value text, request uuid, family_limit integer,
    OUT outcome text, OUT home bigint, OUT other bigint, OUT retired integer
)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    here  bigint;
    there bigint;
    moment timestamptz;
BEGIN
    IF is_email THEN
        SELECT family_id INTO here FROM family_of_email(old_value);
        SELECT family_id INTO there FROM family_of_email(new_value);
    ELSE
        SELECT family_id INTO here FROM family_of_phone(old_value);
        SELECT family_id INTO there FROM family_of_phone(new_value);
    END IF;
    outcome := CASE WHEN here IS NULL THEN 'GONE' ELSE 'CHANGED' END;
    home := here;
    retired := 0;
    IF here IS NULL THEN
        RETURN;
    END IF;
    IF here <> there THEN
        SELECT id INTO STRICT home FROM senior_family(here, there);
        other := here + there - home;
        IF (SELECT sum(contacts) FROM unnest(ARRAY[here, there]) AS root
            CROSS JOIN LATERAL family_size(root, family_limit)) > family_limit THEN
            outcome := 'REFUSED';
            PERFORM refuse_union(home, other, request, next_moment());
            RETURN;
        END IF;
        moment := next_moment();
        PERFORM record_change('families_merged', home, other, other, NULL, request, moment);
        PERFORM retire_family(other, home, moment);
        outcome := 'MERGED';
    END IF;
    IF is_email THEN
        retired := retire_twins_by_email(old_value, new_value, next_moment());
        moment := next_moment();
        PERFORM rewrite_email(old_value, new_value, moment);
    ELSE
        retired := retire_twins_by_phone(old_value, new_value, next_moment());
        moment := next_moment();
        PERFORM rewrite_phone(old_value, new_value, moment);
    END IF;
    PERFORM record_change('identifier_renormalized', home, NULL, NULL, NULL, request, moment);
END $$;

-- Several, in order, each seeing the last; all or none. The lock first, as for every writer.
CREATE FUNCTION renormalize_identifiers(
    are_emails boolean[], old_values text[], new_values text[], request uuid, family_limit integer
) RETURNS TABLE (outcome text, home bigint, other bigint, retired integer)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = public, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
    place integer;
BEGIN
    PERFORM take_write_lock();
    FOR place IN 1 .. cardinality(old_values) LOOP
        SELECT one.outcome, one.home, one.other, one.retired INTO outcome, home, other, retired
        FROM renormalize_one(are_emails[place], old_values[place], new_values[place], request, family_limit) AS one;
        RETURN NEXT;
    END LOOP;
    NOTIFY outbox;
END $$;
