// The next family ids in the graph, in order, and which of them live. Parameters: $given.after, $given.limit.
// Returns one list of [id, lives]. Relies on constraint family_id.
MATCH (f:Family)
WHERE f.id > $given.after
WITH f, f.id AS id ORDER BY id LIMIT $given.limit
RETURN collect([id, NOT f:Tombstone])
