-- These identifiers as today's rules write them, in one transaction under the write lock.
-- Parameters, parallel: $1 whether each is an email, $2 as they stand, $3 as they are to be; $4 request id, $5 family limit.
-- Returns for each, in order: outcome (CHANGED, MERGED, REFUSED, GONE), its family, the family that is no more or was not
-- united, how many contacts were soft-deleted as another has the same. Its indexes:
-- schema/migrations/0005_renormalize.sql.
SELECT outcome, home, other, retired FROM renormalize_identifiers($1, $2, $3, $4, $5)
