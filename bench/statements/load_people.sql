-- Load a batch of identify requests, decided as any other. Parameters: $1 emails text[], $2 phones text[].
-- Returns (family id, contact ids) for each, in order. Its indexes: schema/migrations/0003_identify.sql.
SELECT family_id, contact_ids FROM identify_together($1, $2, array_fill(NULL::uuid, ARRAY[cardinality($1::text[])]), 1000, 3)
