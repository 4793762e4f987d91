-- The settings that decide whether a commit is durable, and where the socket is. Returns (name, setting).
SELECT name, setting FROM pg_settings
WHERE name IN ('server_version', 'fsync', 'synchronous_commit', 'full_page_writes', 'wal_sync_method', 'port',
               'unix_socket_directories')
