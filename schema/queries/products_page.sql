-- A page of products by id.
-- $1 limit bigint, $2 offset bigint.
-- Relies on products_pkey.
SELECT id, name, description, category, price_cents, currency FROM products ORDER BY id LIMIT $1 OFFSET $2
