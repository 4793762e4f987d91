-- The write path of a call with an Idempotency-Key: decided once, in order, under the write lock, and answered from then on.
-- Parameters: $1 principal, $2 SHA-256 of the key bytea, $3 SHA-256 of the request bytea, $4 seconds until the answer
-- expires, $5 the key's lock bigint; then as identify_batch: $6 emails text[], $7 phones text[], $8 request ids uuid[],
-- $9 family limit, $10 fewer rows than these are decided one after another; $11 contacts that an answer shows at most.
-- Returns one row (state, answer json). Relies on idempotency_keys_pkey; schema/migrations/0012_idempotency.sql.
SELECT state, answer FROM identify_once($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
