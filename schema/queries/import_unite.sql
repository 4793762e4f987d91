-- Families that lost a union: their contacts, evidence and aliases go over to the survivor. Each survivor is one of the end:
-- it lost no union of the same statement.
-- Parameters, parallel: $1 losers, $2 survivors, $3 when, $4 the losers' last versions. Ask holding the write lock.
-- Its indexes: schema/migrations/0003_identify.sql.
SELECT unite_families($1, $2, $3, $4)
