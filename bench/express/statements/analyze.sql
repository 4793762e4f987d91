-- The planner knows the people who were loaded.
VACUUM ANALYZE contacts
