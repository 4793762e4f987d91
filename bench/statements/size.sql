-- Bytes of this database on the disk.
SELECT pg_database_size(current_database())
