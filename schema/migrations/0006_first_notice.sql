-- The relay hears of a database's very first change as well. identify_batch_v1 tells by change_seq's last_value whether it
-- changed anything, and a sequence that was never used shows 1, before its first value and after. Now it shows 0 before.
ALTER SEQUENCE change_seq MINVALUE 0;
SELECT setval('change_seq', 0) WHERE NOT (SELECT is_called FROM change_seq);
