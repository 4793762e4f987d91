-- A planted bug: the usual advice. Each request locks its own two identifiers, in sorted order, instead of the one write
-- lock. Two requests that share no identifier can still meet in one family, so families split and links chain.
CREATE OR REPLACE FUNCTION take_write_lock() RETURNS void LANGUAGE sql AS 'SELECT';

ALTER FUNCTION identify_in_turn RENAME TO identify_in_turn_unlocked;
CREATE FUNCTION identify_in_turn(
    wanted_emails text[], wanted_phones text[], requests uuid[], family_limit integer
) RETURNS TABLE (
    outcome text, reason text, family_id bigint, version bigint,
    contact_ids bigint[], emails text[], phones text[], created_ats timestamptz[]
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $$
DECLARE
    identifier text;
BEGIN
    FOR place IN 1 .. cardinality(wanted_emails) LOOP
        FOR identifier IN
            SELECT named FROM unnest(ARRAY[wanted_emails[place], wanted_phones[place]]) AS named
            WHERE named IS NOT NULL ORDER BY 1
        LOOP
            PERFORM pg_advisory_xact_lock(hashtextextended(identifier, 0));
        END LOOP;
        RETURN QUERY SELECT * FROM identify_in_turn_unlocked(
            wanted_emails[place:place], wanted_phones[place:place], requests[place:place], family_limit);
    END LOOP;
END $$;

-- identify_together decides by itself: let it go through the planted one as well.
CREATE OR REPLACE FUNCTION identify_together(
    wanted_emails text[], wanted_phones text[], requests uuid[], family_limit integer, few integer
) RETURNS TABLE (
    outcome text, reason text, family_id bigint, version bigint,
    contact_ids bigint[], emails text[], phones text[], created_ats timestamptz[]
)
LANGUAGE sql VOLATILE SECURITY DEFINER AS 'SELECT * FROM identify_in_turn($1, $2, $3, $4)';
