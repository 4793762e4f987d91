-- One write whose way to the graph is watched. Parameters: $1 email, $2 phone, $3 the request id of all such writes.
-- Returns (family id, version). Its indexes: schema/migrations/0003_identify.sql.
SELECT family_id, version FROM identify_in_turn(ARRAY[$1::text], ARRAY[$2::text], ARRAY[$3::uuid], 1000)
