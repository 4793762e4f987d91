-- One migrator at a time, for the whole run. The key is a number of our own choice.
SELECT pg_advisory_lock(7954894493553027431)
