-- The end of the audit trail. Returns (seq, hash); no row if somebody removed it. One row: no index.
SELECT seq, hash FROM audit_head
