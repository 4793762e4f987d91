-- Give the lease back, if this relay has it: another may take it at once. Parameters: $1 key, $2 this relay.
-- Relies on relay_lease_pkey.
UPDATE relay_lease SET renewed_at = '-infinity' WHERE key = $1 AND holder = $2::uuid
