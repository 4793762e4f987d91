-- Families that lost a union: their contacts, evidence and aliases go over to the survivor, as unite_families and
-- retire_family do it for one. Each survivor is one of the end: it lost no union of the same statement.
-- Parameters, parallel: $1 losers, $2 survivors, $3 when, $4 the losers' last versions. Ask holding the write lock.
-- Relies on contacts_pkey, idx_contacts_linked_id, evidence_family, aliases_survivor, aliases_pkey.
WITH lost AS MATERIALIZED (
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::bigint[])
                  AS lost (loser, survivor, moment, version)
), heads AS (
    UPDATE contacts SET linked_id = lost.survivor, link_precedence = 'secondary', updated_at = lost.moment
    FROM lost WHERE contacts.id = lost.loser AND contacts.linked_id IS NULL AND deleted_at IS NULL
), members AS (
    UPDATE contacts SET linked_id = lost.survivor, updated_at = lost.moment
    FROM lost WHERE contacts.linked_id = lost.loser AND deleted_at IS NULL
), ties AS (
    UPDATE evidence SET family_id = lost.survivor FROM lost WHERE evidence.family_id = lost.loser
), older AS (
    UPDATE aliases SET survivor_id = lost.survivor FROM lost WHERE aliases.survivor_id = lost.loser
)
INSERT INTO aliases (family_id, survivor_id, version) SELECT loser, survivor, version FROM lost
ON CONFLICT (family_id) DO UPDATE SET survivor_id = excluded.survivor_id, version = excluded.version
