-- How many identity events there are, counted no further than $1. Relies on identity_events_pkey.
SELECT count(*) FROM (SELECT FROM identity_events LIMIT $1) AS counted
