// The indexes and constraints that the graph has, whatever their names, to be compared with constraints.cypher.
// Parameters: none. Returns a row each: what (label or type), property, unique (whether a constraint owns it).
SHOW INDEXES YIELD labelsOrTypes, properties, owningConstraint
WHERE size(properties) = 1 AND size(labelsOrTypes) = 1
RETURN labelsOrTypes[0] AS what, properties[0] AS property, owningConstraint IS NOT NULL AS unique
