-- The first month that is kept. Parameters: $1 so many months before this one are kept.
-- Returns (first_month, its beginning as a moment), by UTC. No index: computed.
SELECT month AS first_month, month AT TIME ZONE 'UTC' AS first_moment
FROM (SELECT date_trunc('month', now() AT TIME ZONE 'UTC') - make_interval(months => $1::integer) AS month) AS kept
