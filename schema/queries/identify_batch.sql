-- The write path of identify: one autocommit call decides a batch, in order, under the write lock. Where a request fails
-- for its data the whole call fails, and nothing is written: identify_batch_carefully finds out whose it is.
-- Parameters: $1 emails text[], $2 phones text[], $3 request ids uuid[]; parallel, NULL where absent; $4 family limit.
-- Returns a row for each request, in order. Its indexes: schema/migrations/0010_identify_together.sql.
SELECT outcome, reason, version, contact_ids, emails, phones, created_ats FROM identify_batch_v3($1, $2, $3, $4)
