-- Was this database ever migrated?
SELECT to_regclass('schema_migrations') IS NOT NULL
