// Delete everything the projection makes but the families' nodes, in transactions of bounded size; wipe_families comes
// after it. Auto-commit only. A batch that meets the relay's locks is tried again. Parameters: none.
MATCH (node:Contact|Email|Phone)
CALL (node) {
  DETACH DELETE node
} IN TRANSACTIONS OF 2000 ROWS
  ON ERROR RETRY FOR 60 SECONDS THEN FAIL
