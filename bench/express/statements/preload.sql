-- The people whom the load knows from the start. Parameters: $1 emails text[], $2 phones text[].
INSERT INTO contacts (email, phone_number, link_precedence)
SELECT email, phone, 'primary' FROM unnest($1::text[], $2::text[]) AS people (email, phone)
