// The next contact ids in the graph, in order. Parameters: $given.after, $given.limit. Relies on constraint contact_id.
MATCH (c:Contact)
WHERE c.id > $given.after
WITH c.id AS id ORDER BY id LIMIT $given.limit
RETURN collect(id)
