-- One product.
-- $1 id bigint.
-- Relies on products_pkey.
SELECT id, name, description, category, price_cents, currency FROM products WHERE id = $1
