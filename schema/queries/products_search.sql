-- Products that match a text, the best first: by words in any form, then names that look alike.
-- $1 text, $2 limit bigint.
-- Relies on products_words, products_name_similar.
SELECT id, name, description, category, price_cents, currency FROM search_products($1, $2)
