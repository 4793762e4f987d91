-- Delete answers to Idempotency-Keys that have expired. Parameters: $1 at most so many integer.
-- Returns how many were deleted. Relies on idempotency_keys_expiry.
SELECT expire_idempotency_keys($1)
