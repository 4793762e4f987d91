// Third step of a projection: the evidence of the families taken, as edges from email to phone.
// An edge carries its family and the version of that family's newest state: no older state of another takes it away.
// Parameters: $given.families [{id, version, pairs [[email, phone]], tie_micros, tie_requests}]; the lists are parallel.
// Relies on constraints family_id, email_value, phone_value.
UNWIND $given.families AS state
MATCH (f:Family {id: state.id})
USING INDEX SEEK f:Family(id)
WHERE f.version = state.version
UNWIND range(0, size(state.pairs) - 1) AS place
// Only what a tie needs goes on: a row that kept its state would be counted as large as its whole family.
WITH f.id AS family, state.version AS version, state.pairs[place][0] AS email, state.pairs[place][1] AS phone,
     state.tie_micros[place] AS micros, state.tie_requests[place] AS request
MERGE (e:Email {value: email})
MERGE (p:Phone {value: phone})
// The write lock of all ties of this email, before the comparison.
SET e.value = email
MERGE (e)-[tie:SEEN_WITH]->(p)
WITH tie, family, version, micros, request, (micros % 1000000 + 1000000) % 1000000 AS fraction
WHERE coalesce(tie.version, -1) <= version
SET tie.version = version, tie.family = family, tie.request = request,
    tie.at = datetime.fromEpoch((micros - fraction) / 1000000, fraction * 1000)
