-- Append a batch of entries to the audit trail, once however often it is sent.
-- Parameters: $1 this writer, $2 the number of its batch (both null: store without asking), then arrays of the same length:
-- $3 who, $4 what, $5 outcome, $6 subject, $7 request ids, $8 family ids as literals of bigint[], $9 microseconds since
-- 1970, $10 amounts. Returns (head_seq, head_hash). Relies on audit_head_pkey, audit_writers_pkey.
SELECT head_seq, head_hash FROM audit_append(
    $1::uuid, $2::bigint, $3::text[], $4::text[], $5::text[], $6::text[], $7::uuid[], $8::text[], $9::bigint[], $10::bigint[]
)
