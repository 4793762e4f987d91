-- Statistics of all tables.
ANALYZE
