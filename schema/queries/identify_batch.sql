-- The write path of identify: one autocommit call decides a batch, in order, under the write lock. Where a request fails
-- for its data the whole call fails, and nothing is written.
-- Parameters: $1 emails text[], $2 phones text[], $3 request ids uuid[]; parallel, NULL where absent; $4 family limit,
-- $5 fewer rows than these are decided one after another in less time than together.
-- Returns a row for each request, in order. Its indexes: schema/migrations/0003_identify.sql.
SELECT outcome, reason, version, contact_ids, emails, phones, created_ats FROM identify_together($1, $2, $3, $4, $5)
