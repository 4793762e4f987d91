-- What a session has been given: the settings named, in their base units, and the role it acts as.
-- Parameters: $1 names text[]. Returns (name, value). No index: pg_settings is computed.
SELECT name, setting FROM pg_settings WHERE name = ANY ($1::text[])
UNION ALL
SELECT 'role', current_user::text
