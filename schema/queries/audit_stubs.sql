-- Where the audit trail begins, and where each retention cut it: the newest first. Returns (seq, hash).
-- Relies on audit_stubs_pkey.
SELECT seq, hash FROM audit_stubs ORDER BY seq DESC
