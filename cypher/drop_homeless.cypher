// Last but one step of a rebuild: contacts of no family. The relay may have written a family while the wipe removed its
// node. A contact that was deleted in the record since then is tied to nothing that a projection would read. In
// transactions of bounded size. Auto-commit only. Parameters: none.
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
