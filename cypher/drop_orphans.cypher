// Repair only: of these identifiers, those that nothing ties any more.
// Parameters: $given.identifiers, element ids.
UNWIND $given.identifiers AS id
MATCH (identifier)
WHERE elementId(identifier) = id
// The write lock: who ties it meanwhile waits, or is seen.
SET identifier.value = identifier.value
WITH identifier
WHERE NOT EXISTS { (identifier)--() }
DELETE identifier
