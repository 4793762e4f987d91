-- Of these contact ids, those the record does not have, or no longer. Parameters: $1 ids. Relies on contacts_pkey.
SELECT coalesce(array_agg(id), '{}') FROM unnest($1::bigint[]) AS shown (id)
WHERE NOT EXISTS (SELECT FROM contacts WHERE contacts.id = shown.id AND deleted_at IS NULL)
