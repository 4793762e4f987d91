// Delete all that the projection makes except Family nodes, in transactions of bounded size; wipe_families follows.
// Auto-commit only. A batch that meets the relay's locks is retried. Parameters: none.
MATCH (node:Contact|Email|Phone)
CALL (node) {
  DETACH DELETE node
} IN TRANSACTIONS OF 2000 ROWS
  ON ERROR RETRY FOR 60 SECONDS THEN FAIL
