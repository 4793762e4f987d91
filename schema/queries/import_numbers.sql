-- Numbers for new contacts and for changes, in the order of their use. Ask holding the write lock.
-- Parameters: $1 how many contacts, $2 how many changes. Returns two arrays.
SELECT ARRAY(SELECT nextval('contacts_id_seq') FROM generate_series(1, $1::integer)),
       ARRAY(SELECT nextval('change_seq') FROM generate_series(1, $2::integer))
