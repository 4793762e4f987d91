-- Which of these unions were refused before: an event says so once. Hold the write lock.
-- Parameters: $1 and $2 family ids, parallel. Returns the places of the told ones, from 1.
-- Relies on identity_events_refusal.
SELECT coalesce(array_agg(asked.place), '{}')
FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS asked (one, other, place)
WHERE EXISTS (SELECT FROM identity_events
              WHERE kind = 'union_refused'
                AND least(family_id, other_family_id) = least(one, other)
                AND greatest(family_id, other_family_id) = greatest(one, other))
