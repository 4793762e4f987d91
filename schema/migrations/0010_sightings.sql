-- Which families a service has identified: it may read these by id, and no others (nexus_graph/door/sight.py). A family that
-- was taken in by another leads to that one by its alias.

CREATE TABLE sightings (
    principal text   NOT NULL CHECK (principal ~ '^[a-z]+:[0-9a-f]{1,64}$'),
    family_id bigint NOT NULL,
    PRIMARY KEY (principal, family_id)
);

GRANT SELECT, INSERT ON sightings TO nexus_api;
