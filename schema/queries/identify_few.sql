-- The write path for one request or two, which identify_batch would only hand on: it decides them one after the other.
-- Parameters: $1 emails text[], $2 phones text[], $3 request ids uuid[]; parallel, NULL where absent; $4 family limit.
-- Returns a row for each request, in order. Its indexes: schema/migrations/0002_identify.sql.
SELECT outcome, reason, version, contact_ids, emails, phones, created_ats FROM identify_batch_v2($1, $2, $3, $4)
