-- The greatest contact id there ever was; 0 if there is none. Relies on contacts_pkey.
SELECT coalesce(max(id), 0) FROM contacts
