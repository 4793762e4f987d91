-- The number of all products.
-- No parameters. No index: it reads them all, which are few.
SELECT count(*) FROM products
