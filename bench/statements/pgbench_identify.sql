-- One identify a transaction: the mix of workload.py over the same people, for pgbench.
-- Parameters (-D): people, loaded before; slice, how many of them this client may unite in this run; first_own, the
-- place of client 0's slice among them; first_fresh, the first number that no earlier run made; fresh, made, united: 0.
-- Numbers are identifiers as in workload.py. People in a client's queue: first its slice (every second one of those
-- loaded: the HTTP arms unite the others), then those it made, in order; three neighbours are joined by two unions.
-- A client has 100,000 numbers for people and as many for new identifiers.
\set dice random(1, 100)
\set known 12000000000 + random(0, :people - 1)
\set own_people :first_fresh + :client_id * 200000
\set own_fresh :own_people + 100000
\set place 3 * (:united / 2) + :united % 2
\if :dice <= 50
    \set email :known
    \set phone :known
\elif :dice <= 75
    \set coin random(0, 1)
    \set email case when :coin = 0 then :known else :own_fresh + :fresh end
    \set phone case when :coin = 0 then :own_fresh + :fresh else :known end
    \set fresh :fresh + 1
\elif :dice <= 90 or :place + 1 >= :slice + :made
    \set email :own_people + :made
    \set phone :email
    \set made :made + 1
\else
    \set loaded 12000000001 + 2 * (:first_own + :client_id * :slice + :place)
    \set email case when :place < :slice then :loaded else :own_people + :place - :slice end
    \set phone case when :place + 1 < :slice then :loaded + 2 else :own_people + :place + 1 - :slice end
    \set united :united + 1
\endif
SELECT * FROM identify_in_turn(
    ARRAY['p' || :email || '@bench.example'], ARRAY['+' || :phone], ARRAY[NULL]::uuid[], 1000);
