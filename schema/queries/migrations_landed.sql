-- The migrations this database has: (number, name, checksum), in order. Relies on schema_migrations_pkey.
SELECT number, name, checksum FROM schema_migrations ORDER BY number
