// Last step of a rebuild: delete identifiers without an edge. In transactions of bounded size. Auto-commit only.
// Parameters: none.
MATCH (identifier:Email|Phone)
WHERE NOT EXISTS { (identifier)--() }
CALL (identifier) {
  // The write lock: who ties it meanwhile waits, or is seen.
  SET identifier.value = identifier.value
  WITH identifier
  WHERE NOT EXISTS { (identifier)--() }
  DELETE identifier
} IN TRANSACTIONS OF 2000 ROWS
  ON ERROR RETRY FOR 60 SECONDS THEN FAIL
