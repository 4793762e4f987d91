// Which Neo4j this is.
CALL dbms.components() YIELD name, versions, edition RETURN name, versions[0] AS version, edition
