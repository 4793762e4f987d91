-- The write path for a few requests, which identify_batch would only hand on: they are decided one after the other.
-- Parameters: $1 emails text[], $2 phones text[], $3 request ids uuid[]; parallel, NULL where absent; $4 family limit.
-- Returns a row for each request, in order. Its indexes: schema/migrations/0003_identify.sql.
SELECT outcome, reason, version, contact_ids, emails, phones, created_ats FROM identify_in_turn($1, $2, $3, $4)
