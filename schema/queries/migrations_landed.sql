-- The migrations this database has. Relies on schema_migrations_pkey.
SELECT number, checksum FROM schema_migrations ORDER BY number
