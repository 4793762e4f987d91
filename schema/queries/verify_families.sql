-- Of these family ids, those that no family of the record has or had. Parameters: $1 ids.
-- Relies on contacts_pkey, aliases_pkey.
SELECT coalesce(array_agg(id), '{}') FROM unnest($1::bigint[]) AS shown (id)
WHERE NOT EXISTS (SELECT FROM contacts WHERE contacts.id = shown.id AND linked_id IS NULL)
  AND NOT EXISTS (SELECT FROM aliases WHERE aliases.family_id = shown.id)
