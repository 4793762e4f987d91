-- One migrator at a time, for the whole run. The key is "nexusmig" in ASCII.
SELECT pg_advisory_lock(7954894493553027431)
