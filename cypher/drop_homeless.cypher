// Last but one step of a rebuild: contacts of no family. The relay may have been writing a family while the wipe took its
// node: contacts that were deleted in the record since are then tied to nothing that a projection would look at.
// In transactions of bounded size. Auto-commit only. Parameters: none.
MATCH (c:Contact)
WHERE NOT EXISTS { (c)-[:IN_FAMILY]->() }
CALL (c) {
  // The write lock: who gives it a family meanwhile waits, or is seen.
  SET c.id = c.id
  WITH c
  WHERE NOT EXISTS { (c)-[:IN_FAMILY]->() }
  DETACH DELETE c
} IN TRANSACTIONS OF 2000 ROWS
  ON ERROR RETRY FOR 60 SECONDS THEN FAIL
