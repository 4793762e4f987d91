// Repair only: delete those of these identifiers that have no edge left.
// Parameters: $given.identifiers, element ids.
UNWIND $given.identifiers AS id
MATCH (identifier)
WHERE elementId(identifier) = id
// Take the write lock: a transaction that ties the identifier meanwhile waits, or its edge is visible.
SET identifier.value = identifier.value
WITH identifier
WHERE NOT EXISTS { (identifier)--() }
DELETE identifier
