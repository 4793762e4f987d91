// The end of a wipe. A Family node says that the graph has all of the family, so the node goes last. A family that the
// relay writes from here on is written whole. In transactions of bounded size. Auto-commit only. Parameters: none.
MATCH (family:Family)
CALL (family) {
  DETACH DELETE family
} IN TRANSACTIONS OF 2000 ROWS
  ON ERROR RETRY FOR 60 SECONDS THEN FAIL
