-- What the graph should show of each of these family ids: the state of the record, in one snapshot.
-- Parameters: $1 family ids. Returns a row for each; where live is false the family is gone and its lists are empty.
-- version: of a live family its newest event, 0 if it has none; of one that is gone, when it went.
-- ids, emails, phones, micros: its contacts, the primary first, then by (created_at, id); micros since 1970.
-- joined: when each contact came to this family or was made, micros since 1970: every writer that makes or moves one sets
-- updated_at to the moment of its event.
-- pairs, tie_micros, tie_requests: its evidence, by (email, phone).
-- event_seqs, event_kinds, event_micros: its newest events, the newest first, at most eight: what led to this version.
-- Relies on contacts_pkey, idx_contacts_linked_id, identity_events_family, evidence_family, aliases_pkey.
SELECT asked.id,
       head.id IS NOT NULL AS live,
       coalesce(CASE WHEN head.id IS NULL THEN greatest(events.seqs[1], aliases.version)
                     ELSE events.seqs[1] END, 0) AS version,
       coalesce(cardinality(members.ids), 0) AS size,
       coalesce(members.ids, '{}') AS ids,
       coalesce(members.emails, '{}') AS emails,
       coalesce(members.phones, '{}') AS phones,
       coalesce(members.micros, '{}') AS micros,
       coalesce(members.joined, '{}') AS joined,
       coalesce(ties.pairs, '{}') AS pairs,
       coalesce(ties.micros, '{}') AS tie_micros,
       coalesce(ties.requests, '{}') AS tie_requests,
       coalesce(events.seqs, '{}') AS event_seqs,
       coalesce(events.kinds, '{}') AS event_kinds,
       coalesce(events.micros, '{}') AS event_micros
FROM unnest($1::bigint[]) AS asked (id)
LEFT JOIN contacts AS head ON head.id = asked.id AND head.linked_id IS NULL AND head.deleted_at IS NULL
LEFT JOIN aliases ON aliases.family_id = asked.id
LEFT JOIN LATERAL (
    SELECT array_agg(seq) AS seqs, array_agg(kind) AS kinds,
           array_agg((extract(epoch FROM at) * 1000000)::bigint) AS micros
    FROM (SELECT seq, kind, at FROM identity_events WHERE family_id = asked.id ORDER BY -seq LIMIT 8) AS newest
) AS events ON true
LEFT JOIN LATERAL (
    SELECT array_agg(id) AS ids, array_agg(email) AS emails, array_agg(phone_number) AS phones,
           array_agg((extract(epoch FROM created_at) * 1000000)::bigint) AS micros,
           array_agg((extract(epoch FROM updated_at) * 1000000)::bigint) AS joined
    FROM family_in_order(head.id, NULL)
) AS members ON true
LEFT JOIN LATERAL (
    SELECT array_agg(ARRAY[email::text, phone_number::text]) AS pairs,
           array_agg((extract(epoch FROM seen_at) * 1000000)::bigint) AS micros,
           array_agg(request_id::text) AS requests
    FROM (
        SELECT email, phone_number, seen_at, request_id FROM evidence
        WHERE family_id = head.id ORDER BY email, phone_number
    ) AS ordered
) AS ties ON true
