// The version the graph has of a family; no row if it has none. Parameter: $id. Relies on the constraint family_id.
MATCH (family:Family {id: $id}) RETURN family.version AS version
