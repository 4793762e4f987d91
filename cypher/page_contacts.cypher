// The next contact ids in the graph, in order. Parameters: $after, $limit. Relies on constraint contact_id.
MATCH (c:Contact)
WHERE c.id > $after
WITH c.id AS id ORDER BY id LIMIT $limit
RETURN collect(id)
