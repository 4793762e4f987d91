"""What an analyst's Neo4j Browser fetches when it connects: our style of the graph, and a guide of queries."""
