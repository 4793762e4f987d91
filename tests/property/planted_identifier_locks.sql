-- A planted bug: the usual advice. Each request locks its own two identifiers, in sorted order, instead of the one write
-- lock. Two requests that share no identifier can still meet in one family, so families split and links chain.
CREATE OR REPLACE FUNCTION take_write_lock() RETURNS void LANGUAGE sql AS 'SELECT';

ALTER FUNCTION identify_one RENAME TO identify_one_unlocked;
CREATE FUNCTION identify_one(
    wanted_email text, wanted_phone text, request uuid, family_limit integer,
    OUT outcome text, OUT reason text, OUT answer family_columns
)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    identifier text;
    found record;
BEGIN
    FOR identifier IN
        SELECT named FROM unnest(ARRAY[wanted_email, wanted_phone]) AS named WHERE named IS NOT NULL ORDER BY 1
    LOOP
        PERFORM pg_advisory_xact_lock(hashtextextended(identifier, 0));
    END LOOP;
    SELECT * INTO found FROM identify_one_unlocked(wanted_email, wanted_phone, request, family_limit);
    outcome := found.outcome;
    reason := found.reason;
    answer := found.answer;
END $$;

-- The swift functions decide by themselves: let them go through the planted one as well.
CREATE OR REPLACE FUNCTION identify_batch_v2(
    wanted_emails text[], wanted_phones text[], requests uuid[], family_limit integer
) RETURNS TABLE (
    outcome text, reason text, family_id bigint, version bigint,
    contact_ids bigint[], emails text[], phones text[], created_ats timestamptz[]
)
LANGUAGE sql VOLATILE SECURITY DEFINER AS 'SELECT * FROM identify_batch_v1($1, $2, $3, $4)';

CREATE OR REPLACE FUNCTION identify_batch_v3(
    wanted_emails text[], wanted_phones text[], requests uuid[], family_limit integer
) RETURNS TABLE (
    outcome text, reason text, family_id bigint, version bigint,
    contact_ids bigint[], emails text[], phones text[], created_ats timestamptz[]
)
LANGUAGE sql VOLATILE SECURITY DEFINER AS 'SELECT * FROM identify_batch_v1($1, $2, $3, $4)';
