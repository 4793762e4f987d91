-- The end of a migrator's run.
SELECT pg_advisory_unlock(7954894493553027431)
