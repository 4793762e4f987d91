"""The part `dense`: families at the limit, of contacts that share identifiers many times over.

It reads one of 1,000 contacts, alone and from all clients at once, and families of ten in the same minute. Then it
unites families, within the default limit and past it, on an API of its own with a higher NEXUS_FAMILY_LIMIT.
"""

import asyncio
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from time import perf_counter
from typing import Any, Final

from bench import record
from bench.load.arms import (
    PAGE_OF_FAMILY,
    WHOLE_FAMILY,
    Arm,
    FamilyQuery,
    OneFamily,
    Repeats,
    identify_body,
)
from bench.load.client import Address, HttpClient
from bench.load.loops import Load
from bench.load.workload import DENSE, Pairing, grown_families, new_pairings, preloaded
from bench.plan import BenchError
from bench.result import Figure, Part, percentiles_ms
from bench.servers import another_api
from bench.stack import DRAIN_SECONDS, Running

NAME: Final = "dense"
CONTACTS: Final = 1_000
EVIDENCE: Final = 2_000
PAGE: Final = 100
LIMIT_CONTACTS: Final = 2_500
WITHIN_LIMIT: Final = (500, 499)
PAST_DEFAULT_LIMIT: Final = (1_000, 1_000)
UNIONS: Final = 5
SECONDS: Final = 4.0
WARMUP_SECONDS: Final = 1.0
READ_TARGET_MS: Final = 40
PAGE_TARGET_MS: Final = 20
UNION_TARGET_MS: Final = 100
SHARE_TARGET: Final = 0.5
"""Of the rate of usual families."""
GRAPH_WAIT_SECONDS: Final = 30.0
GRAPH_STEP_SECONDS: Final = 0.005


@dataclass(frozen=True)
class _Grown:
    """A family that was made for this part."""

    pairings: Sequence[Pairing]
    contacts: Sequence[int]


class _Numbers:
    """Numbers for identifiers that no contact has yet."""

    def __init__(self) -> None:
        self._blocks = count(DENSE, 10_000)

    def block(self) -> int:
        """The first of as many as a family needs."""
        return next(self._blocks)


async def dense(bench: Running) -> Part:
    """Raises BenchError if the graph does not take the families in."""
    numbers = _Numbers()
    async with another_api(bench.stack, "roomy", {"NEXUS_FAMILY_LIMIT": str(LIMIT_CONTACTS)}) as roomy:
        family = await _grown(bench, CONTACTS, numbers, evidence=EVIDENCE)
        reads, unions = _Reads(bench, roomy.address, family), _Unions(bench, roomy.address, numbers)
        figures = await reads.figures()
        for sizes in (WITHIN_LIMIT, PAST_DEFAULT_LIMIT):
            figures += await unions.figures(sizes)
    drained = await bench.drained(timeout_seconds=DRAIN_SECONDS)
    drift = await bench.drift()
    problems = [*reads.problems, *unions.problems]
    if not drained:
        problems.append("the relay did not work off the outbox afterwards")
    if drift:
        problems.append(f"{drift} families differ between the record and the graph")
    figures.append(Figure("drift afterwards", drift, "families"))
    return Part(NAME, figures, problems=[f"{NAME}: {problem}" for problem in problems])


async def _grown(bench: Running, contacts: int, numbers: _Numbers, *, evidence: int = 0) -> _Grown:
    """A family of its own, in the record and in the graph."""
    first = numbers.block()
    pairings = list(grown_families(1, contacts=contacts, seed=first, first=first))
    pairings += new_pairings(pairings, count=evidence, seed=first)
    answers = await record.load(bench.pool, iter(pairings))
    if not await bench.drained(timeout_seconds=DRAIN_SECONDS):
        raise BenchError("the relay did not bring a large family into the graph")
    return _Grown(pairings, list(answers[-1]["contact_ids"]))


class _Reads:
    """The dense family under readers, next to families and people as the other arms ask for them."""

    def __init__(self, bench: Running, api: Address, dense: _Grown) -> None:
        self._bench = bench
        self._api = api
        host = api.authority
        emails = len({pairing.email for pairing in dense.pairings})
        self._whole = OneFamily(WHOLE_FAMILY, dense.contacts, host=host, counted=b"@bench.example", count=emails)
        # As a page that many people look at asks: the same question from all.
        self._same = OneFamily(WHOLE_FAMILY, dense.contacts[:1], host=host, counted=b"@bench.example", count=emails)
        self._page = OneFamily(PAGE_OF_FAMILY, dense.contacts, host=host, counted=b'"createdAt"', count=PAGE)
        self._known = Repeats(dense.pairings, host=host)
        self._families = FamilyQuery(bench.site.families, host=host, seed=bench.plan.seed)
        self._people = Repeats(list(preloaded(bench.plan.people)), host=host)
        self.problems: list[str] = []

    async def figures(self) -> list[Figure]:
        """Alone, then from all clients, each next to the same clients' usual rate in the same minute."""
        many = self._bench.plan.clients
        alone = {
            "identifiers, one client": (await self._run(self._whole, clients=1), READ_TARGET_MS),
            f"a page of {PAGE}, one client": (await self._run(self._page, clients=1), PAGE_TARGET_MS),
        }
        figures = [
            Figure(f"{CONTACTS:,} contacts: {what}, {name}", percentiles_ms(load.latencies)[key], "ms", at_most=most)
            for what, (load, target) in alone.items()
            for name, key, most in (("p50", "p50_ms", target), ("p99", "p99_ms", None))
        ]
        pairs: dict[str, tuple[Arm[Any], Arm[Any]]] = {
            "identifiers, by any of its contacts": (self._whole, self._families),
            "identifiers, all by one contact": (self._same, self._families),
            f"a page of {PAGE}, by any of its contacts": (self._page, self._families),
            "POST /identify, known": (self._known, self._people),
        }
        for what, (dense, usual) in pairs.items():
            rate, usual_rate = [(await self._run(arm, clients=many)).rate for arm in (dense, usual)]
            figures.append(Figure(f"{CONTACTS:,} contacts: {what}, {many} clients", rate, "req/s"))
            figures.append(Figure("next to it, the same clients and usual families", usual_rate, "req/s"))
            figures.append(Figure("that is", round(rate / usual_rate, 2), "of it", at_least=SHARE_TARGET))
        return figures

    async def _run(self, arm: Arm[Any], *, clients: int) -> Load:
        load = await self._bench.drive(arm, self._api, clients=clients, seconds=SECONDS, warmup_seconds=WARMUP_SECONDS)
        if load.wrong:
            self.problems.append(f"{load.wrong} of {load.requests} answers were wrong, such as {load.wrong_shown[0]}")
        return load


class _Unions:
    """Two large families, united by one request."""

    def __init__(self, bench: Running, roomy: Address, numbers: _Numbers) -> None:
        self._bench = bench
        self._roomy = roomy
        self._numbers = numbers
        self.problems: list[str] = []

    async def figures(self, sizes: tuple[int, int]) -> list[Figure]:
        """Medians of some unions of families of these sizes."""
        api = self._roomy if sum(sizes) > CONTACTS else self._bench.site.addresses["api"]
        took = [await self._united(api, sizes) for _ in range(UNIONS)]
        what = "union of {:,} and {:,} contacts".format(*sizes)
        return [
            Figure(
                f"{what}: answer",
                round(statistics.median(answer for answer, _ in took) * 1000, 1),
                "ms",
                at_most=UNION_TARGET_MS,
            ),
            Figure(f"{what}: in the graph after", round(statistics.median(graph for _, graph in took) * 1000, 1), "ms"),
        ]

    async def _united(self, api: Address, sizes: tuple[int, int]) -> tuple[float, float]:
        """Seconds until the answer, and until the graph has the family."""
        one, other = [await _grown(self._bench, contacts, self._numbers) for contacts in sizes]
        union = Pairing(one.pairings[0].email, other.pairings[0].phone)
        async with HttpClient(api.host, api.port) as client:
            began = perf_counter()
            answer = await client.post("/graphql", identify_body(union))
            answered = perf_counter()
            said = json.loads(answer.body)["data"]["identify"]
            if said.get("outcome") != "MERGED":
                self.problems.append(f"a union of {sizes} was answered by {str(said)[:200]}")
                return answered - began, 0.0
            family = int(said["family"]["primaryContact"]["databaseId"])
            while await self._bench.watch.graph_version(family) < int(said["version"]):
                if perf_counter() > answered + GRAPH_WAIT_SECONDS:
                    self.problems.append(f"the graph did not show a union of {sizes}")
                    break
                await asyncio.sleep(GRAPH_STEP_SECONDS)
            return answered - began, perf_counter() - answered
