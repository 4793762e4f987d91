// Third step of a projection: the evidence of the families taken, as edges from email to phone.
// An edge carries its family and the version of that family's newest state: no older state of another takes it away.
// Parameters: $families [{id, version, pairs [[email, phone]], tie_micros, tie_requests}]; the lists are parallel.
// Relies on constraints family_id, email_value, phone_value.
UNWIND $families AS state
MATCH (f:Family {id: state.id})
WHERE f.version = state.version
UNWIND range(0, size(state.pairs) - 1) AS place
MERGE (e:Email {value: state.pairs[place][0]})
MERGE (p:Phone {value: state.pairs[place][1]})
// The write lock of all ties of this email, before the comparison.
SET e.value = state.pairs[place][0]
MERGE (e)-[tie:SEEN_WITH]->(p)
WITH tie, state, place, (state.tie_micros[place] % 1000000 + 1000000) % 1000000 AS fraction
WHERE coalesce(tie.version, -1) <= state.version
SET tie.version = state.version, tie.family = state.id,
    tie.at = datetime.fromEpoch((state.tie_micros[place] - fraction) / 1000000, fraction * 1000),
    tie.request = state.tie_requests[place]
