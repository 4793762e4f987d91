-- The families whose turn it is, the longest waiting first, each with exactly the rows that ask for it.
-- Rows that are parked or wait for another try ask for nothing; a newer row of the same family brings them along, as one
-- look at the family answers all of them.
-- Parameters: $1 at most so many rows, $2 stop past so many contacts and evidence rows.
-- Returns (family_id, due: seqs whose turn it is, seqs: those and the ones they bring along).
-- Relies on outbox_pkey, outbox_troubled, idx_contacts_linked_id, evidence_family.
WITH due AS MATERIALIZED (
    SELECT seq, family_id FROM outbox
    WHERE parked_at IS NULL AND (next_try_at IS NULL OR next_try_at <= clock_timestamp())
    ORDER BY seq LIMIT $1
), families AS (
    SELECT family_id, min(seq) AS first, array_agg(seq ORDER BY seq) AS due FROM due GROUP BY family_id
), weighed AS MATERIALIZED (
    SELECT *, (SELECT count(*) FROM contacts WHERE linked_id = families.family_id AND deleted_at IS NULL)
            + (SELECT count(*) FROM evidence WHERE family_id = families.family_id) + 1 AS weight
    FROM families
), summed AS (
    SELECT *, sum(weight) OVER (ORDER BY first) - weight AS before FROM weighed
)
SELECT family_id, due,
       due || ARRAY(SELECT seq FROM outbox
                    WHERE family_id = summed.family_id AND attempts > 0 AND NOT seq = ANY (due)) AS seqs
FROM summed WHERE before < $2 ORDER BY first
