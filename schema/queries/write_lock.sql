-- The one lock of all writers, until this transaction ends. A statement of its own: what is read after it is read by a
-- later snapshot.
SELECT take_write_lock()
