"""The benchmark's mix of requests: its shares, its certainty, and the bound on families."""

import random
from collections import Counter

import pytest

from bench.load.workload import (
    FAMILY_MAX_CONTACTS,
    HOT_CONTACTS,
    MIX,
    OUTCOMES,
    PRELOADED,
    Hotspot,
    Kind,
    Pairing,
    Request,
    Workload,
    grown_families,
    new_pairings,
    preloaded,
)
from nexus_graph.config import Settings
from tests.property.oracle import Oracle


def _sequential(workload: Workload, requests: int) -> list[Request]:
    made = []
    for _ in range(requests):
        request = workload.next()
        workload.acknowledge(request)
        made.append(request)
    return made


def test_the_kinds_have_their_shares() -> None:
    requests = _sequential(Workload(people=5_000, seed=1), 100_000)
    counts = Counter(request.kind for request in requests)
    for kind, share in MIX.items():
        assert counts[kind] / len(requests) == pytest.approx(share, abs=0.005)


def test_the_shares_hold_when_the_load_outgrows_its_people() -> None:
    counts = Counter(request.kind for request in _sequential(Workload(people=500, seed=2), 100_000))
    for kind, share in MIX.items():
        assert counts[kind] / 100_000 == pytest.approx(share, abs=0.01)


def test_the_same_seed_makes_the_same_requests() -> None:
    first, second, other = (
        [request[:2] for request in _sequential(Workload(people=100, seed=seed), 2_000)] for seed in (3, 3, 4)
    )
    assert first == second
    assert first != other


@pytest.mark.parametrize("people", [1_000, 5_000])
def test_families_stay_bounded(people: int) -> None:
    # As many requests a person as the default run makes, and more.
    requests = _sequential(Workload(people=people, seed=5), people * 40)
    heads: dict[tuple[str, int], tuple[str, int]] = {}

    def head(token: tuple[str, int]) -> tuple[str, int]:
        while (above := heads.setdefault(token, token)) != token:
            heads[token] = heads[above]
            token = above
        return token

    contacts: list[Pairing] = list(preloaded(people))
    contacts += [r.pairing for r in requests if r.kind in {Kind.NEW_PERSON, Kind.NEW_IDENTIFIER}]
    unions = [request.pairing for request in requests if request.kind is Kind.UNION]
    for email, phone in (*contacts, *unions):
        heads[head(("email", email))] = head(("phone", phone))
    sizes = Counter(head(("email", contact.email)) for contact in contacts)
    assert max(sizes.values()) <= FAMILY_MAX_CONTACTS
    assert len(unions) > people


def test_outcomes_are_certain_in_whatever_order_32_clients_are_answered() -> None:
    workload, oracle, chance = Workload(people=50, seed=6), Oracle(), random.Random(7)
    for pairing in preloaded(50):
        oracle.identify(*pairing.identifiers)
    in_flight: list[Request] = []
    for _ in range(3_000):
        if len(in_flight) == 32:
            request = in_flight.pop(chance.randrange(32))
            assert oracle.identify(*request.pairing.identifiers).outcome == OUTCOMES[request.kind], request
            workload.acknowledge(request)
        in_flight.append(workload.next())


def test_people_of_odd_number_are_left_to_pgbench() -> None:
    requests = _sequential(Workload(people=200, seed=8), 5_000)
    united = {number for request in requests if request.kind is Kind.UNION for number in request.pairing}
    loaded = {number - PRELOADED for number in united if number < PRELOADED + 200}
    assert loaded == set(range(0, 200, 2))


def test_a_grown_family_is_one_family_of_that_many_contacts() -> None:
    oracle = Oracle()
    outcomes = [oracle.identify(*pairing.identifiers).outcome for pairing in grown_families(3, contacts=10, seed=9)]
    assert outcomes == (["CREATED"] + ["LINKED"] * 9) * 3
    assert sorted(map(len, oracle.families())) == [10, 10, 10]


def test_new_pairings_tie_a_family_again_and_add_no_contact() -> None:
    oracle = Oracle()
    grown = list(grown_families(1, contacts=30, seed=9))
    more = list(new_pairings(grown, count=50, seed=9))
    outcomes = [oracle.identify(*pairing.identifiers).outcome for pairing in (*grown, *more)]
    assert outcomes[30:] == ["MATCHED"] * len(more)
    assert len(more) == len({*more} - {*grown}) > 20
    assert list(map(len, oracle.families())) == [30]


def test_a_hot_family_takes_all_partners_until_it_is_half_full() -> None:
    hotspot, oracle, chance = Hotspot(seed=1), Oracle(), random.Random(2)
    in_flight: list[Request] = []
    for _ in range(3 * HOT_CONTACTS):
        if len(in_flight) == 32:
            request = in_flight.pop(chance.randrange(32))
            assert oracle.identify(*request.pairing.identifiers).outcome == OUTCOMES[request.kind], request
            hotspot.acknowledge(request)
        in_flight.append(hotspot.next())
    sizes = sorted(map(len, oracle.families()), reverse=True)
    assert HOT_CONTACTS < sizes[1] <= sizes[0] < Settings().family_limit_contacts - 128
    assert sum(sizes[:3]) > 0.9 * sum(sizes)
