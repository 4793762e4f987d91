-- Entries of the audit trail in their order, stored from one moment until before another.
-- Parameters: $1 from this moment, $2 until before this one; null: no bound.
-- Returns (seq, stored_at, at, who, what, outcome, subject, request_id, family_ids, amount, hash).
-- Relies on audit_log_pkey, in the months between.
SELECT seq, stored_at, at, who, what, outcome, subject, request_id, family_ids, amount, hash FROM audit_log
WHERE stored_at >= coalesce($1::timestamptz, '-infinity') AND stored_at < coalesce($2::timestamptz, 'infinity')
ORDER BY stored_at, seq
