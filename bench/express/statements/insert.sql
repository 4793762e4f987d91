-- A new contact. Parameters: $1 email, $2 phone, $3 the primary's id, NULL for a primary.
INSERT INTO contacts (email, phone_number, linked_id, link_precedence)
VALUES ($1, $2, $3::int, CASE WHEN $3::int IS NULL THEN 'primary' ELSE 'secondary' END)
RETURNING id, email, phone_number, link_precedence
