// Statements as analysts write them, for the training run of Neo4j's class archive (devstack/training.py): their first
// run after a start is quick as well. They run on a server that is thrown away.
CREATE CONSTRAINT training IF NOT EXISTS FOR (t:Training) REQUIRE t.id IS UNIQUE;
UNWIND range(1, 200) AS id MERGE (t:Training {id: id}) SET t.at = datetime(), t.name = 'n' + toString(id);
UNWIND range(2, 200) AS id MATCH (a:Training {id: id}), (b:Training {id: id / 2}) MERGE (a)-[s:SEEN {at: 1}]->(b);
MATCH (t:Training {id: 7})-[:SEEN*0..]-(m) WITH DISTINCT m RETURN count(m), collect(m.name), max(m.at);
UNWIND [1, 5, 9] AS id CALL (id) { MATCH (t:Training {id: id})-[:SEEN*0..]-(m) WITH DISTINCT m RETURN count(m) AS n } RETURN id, n;
MATCH p = shortestPath((a:Training {id: 3})-[:SEEN*..10]-(b:Training {id: 150})) RETURN [n IN nodes(p) | n.id] AS ids;
MATCH (t:Training) WHERE t.name STARTS WITH 'n1' OPTIONAL MATCH (t)-[s]->(o) RETURN t {.*, other: o.id} ORDER BY t.id LIMIT 20;
EXPLAIN MATCH (t:Training)-[:SEEN]->(o) RETURN labels(t), count(*) ORDER BY count(*) DESC;
MATCH (t:Training) WHERE t.id > 150 DETACH DELETE t;
SHOW INDEXES YIELD name, state RETURN count(*);
