-- How many contacts live; for progress bars. Relies on an index of the live contacts, whichever is smallest.
SELECT count(*) FROM contacts WHERE deleted_at IS NULL
