// Wait until every index answers. Parameters: $seconds, at most.
CALL db.awaitIndexes($seconds)
