"""verify: compare every family, contact and edge of the graph with the record, both ways.

For each family of the record, verify walks the graph from the family's primary, through identifiers and evidence only,
and compares the walk with the record's links. Equality proves both sides, and that families are connected components.
Then verify looks for nodes and edges of the graph that no family of the record accounts for. Findings hold ids, never
an email or a phone.

Live traffic may go on meanwhile. A difference counts only if it remains after the relay has projected all rows that
were queued, and if the record did not change while verify read the graph.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import Any, Final, Literal, NamedTuple

from neo4j import AsyncDriver

from nexus_graph.graph.comparison import VERIFY_TIMEOUT_SECONDS, differences, read_shown
from nexus_graph.graph.driver import ask
from nexus_graph.graph.states import FamilyState, Progress, read_page, read_states, work_through
from nexus_graph.statements import sql
from nexus_graph.store.database import Pool

BATCH_FAMILIES: Final = 1_000
"""Families that one query of verify compares."""

_BATCH_IDS: Final = 10_000
"""Ids of nodes that one query of verify looks up."""

SETTLE_SECONDS: Final = 10.0
"""Seconds that verify waits for the relay before a difference counts as drift: a relay that another must replace has
brought the change by then."""

_SETTLE_STEP_SECONDS: Final = 0.05
"""Seconds between two looks whether the relay has settled a difference."""

FINDINGS_MAX: Final = 10_000
"""Findings that one pass keeps in memory and repair mends; where there are more, repair makes another pass."""

_SAMPLE_FAMILIES: Final = 500
"""Families of one sample for the drift gauge: some milliseconds for either server."""


_BEFORE_ALL_IDS: Final = -(2**63)


class Finding(NamedTuple):
    """One difference. `ref` is the id of a family or contact, else Neo4j's element id."""

    kind: Literal["family", "contact", "identifier", "tie", "node"]
    ref: int | str
    differs: tuple[str, ...]


@dataclass(slots=True)
class Report:
    """One pass of verify: how much was compared, and all that differs."""

    families: int = 0
    contacts: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)
    complete: bool = True
    """False if one pass found more differences than it keeps."""

    @property
    def drift(self) -> int:
        return len(self.findings)

    def lines(self) -> Iterator[str]:
        """The report in words; the last line says how much drift there is."""
        for kind, ref, differs in self.findings:
            yield f"{kind} {ref}: {', '.join(differs)}"
        yield f"compared {self.families:,} families, {self.contacts:,} contacts in {self.seconds:.1f} s"
        yield f"drift {self.drift}" + ("" if self.complete else " or more")

    def as_json(self) -> dict[str, Any]:
        findings = [finding._asdict() for finding in self.findings]
        return {"drift": self.drift, **asdict(self), "seconds": round(self.seconds, 3), "findings": findings}


async def verify(pool: Pool, driver: AsyncDriver, *, progress: Progress = lambda _: None) -> Report:
    """Compare everything. Raises what the drivers raise when a server is away."""
    began = monotonic()
    verification = _Verification(pool, driver)
    report = Report()

    async def compare(states: list[FamilyState]) -> None:
        verification.suspect(await verification.differing(states))
        report.families += sum(state["live"] for state in states)

    report.contacts = await work_through(pool, compare, families_max=BATCH_FAMILIES, progress=progress)
    await verification.look_for_strangers()
    await verification.look_for_loose_ends()
    report.findings = await verification.confirmed()
    report.complete = verification.complete
    report.seconds = monotonic() - began
    return report


async def sample_drift(pool: Pool, driver: AsyncDriver) -> list[int]:
    """The ids that drift in a new random sample of families. Raises what the drivers raise."""
    newest = await pool.fetchval(sql("family_newest"))
    after = random.randrange(-1, newest) if newest else 0  # noqa: S311 - a sample, not a secret
    verification = _Verification(pool, driver)
    ids = await read_page(pool, after=after, families_max=_SAMPLE_FAMILIES)
    verification.suspect(await verification.differing(await read_states(pool, ids)))
    return [finding.ref for finding in await verification.confirmed() if isinstance(finding.ref, int)]


class _Difference(NamedTuple):
    names: tuple[str, ...]
    shown_version: int | None


class _Verification:
    """One pass: collect suspects, then confirm or drop each."""

    def __init__(self, pool: Pool, driver: AsyncDriver) -> None:
        self._pool = pool
        self._driver = driver
        self._families: dict[int, int | None] = {}
        """Suspected families, each with its version in the graph at that moment."""
        self._strange_contacts: list[int] = []
        self._strange_families: list[int] = []
        self._stranded: list[int] = []
        self._loose: dict[str, list[str]] = {}

    @property
    def complete(self) -> bool:
        """False if one pass found more suspects than it keeps."""
        return self._room() > 0

    async def differing(self, states: list[FamilyState]) -> dict[int, _Difference]:
        """The differences by family; a family without any has no entry."""
        shown = await read_shown(self._driver, states)
        found = {}
        for state in states:
            names = differences(state, shown[state["id"]])
            if names:
                found[state["id"]] = _Difference(names, shown[state["id"]].version)
        return found

    def suspect(self, differing: dict[int, _Difference]) -> None:
        for family_id, difference in list(differing.items())[: self._room()]:
            self._families[family_id] = difference.shown_version

    async def look_for_strangers(self) -> None:
        """Contacts and families of the graph that the record lacks, and contacts of the record outside any family."""
        async for ids in self._graph_ids("page_contacts"):
            self._strange_contacts += (await self._pool.fetchval(sql("verify_contacts"), ids))[: self._room()]
        async for rows in self._graph_ids("page_families"):
            living = [family_id for family_id, lives in rows if lives]
            self._strange_families += (await self._pool.fetchval(sql("verify_families"), living))[: self._room()]
        after: int | None = 0
        while after is not None:
            (page,) = await self._pool.fetch(sql("verify_stranded"), after, _BATCH_IDS)
            self._stranded += page["stranded"][: self._room()]
            after = page["last"]

    async def look_for_loose_ends(self) -> None:
        """Identifiers that nothing ties, ties of no family, nodes without an id."""
        self._loose = await self._find_loose(self._room())

    async def confirmed(self) -> list[Finding]:
        """The suspects that still differ after the relay has projected the queued rows."""
        if not self._suspects():
            return []
        deadline = monotonic() + SETTLE_SECONDS
        newest = await self._pool.fetchval(sql("outbox_newest"))
        while monotonic() < deadline:
            if await self._pool.fetchval(sql("outbox_reached"), newest):
                break
            await asyncio.sleep(_SETTLE_STEP_SECONDS)
        return [*await self._confirmed_families(deadline), *await self._confirmed_rest()]

    async def _confirmed_families(self, deadline: float) -> list[Finding]:
        confirmed: list[Finding] = []
        suspected = sorted(self._families)
        while suspected:
            late = monotonic() >= deadline
            open_still: list[int] = []
            for start in range(0, len(suspected), BATCH_FAMILIES):
                findings, undecided = await self._decide(suspected[start : start + BATCH_FAMILIES], late=late)
                confirmed += findings
                open_still += undecided
            suspected = open_still
            if suspected:
                await asyncio.sleep(_SETTLE_STEP_SECONDS)
        return confirmed

    async def _decide(self, ids: list[int], *, late: bool) -> tuple[list[Finding], list[int]]:
        """Compare again. Returns the findings that are certain, and the ids that are still undecided.

        A difference is certain if no outbox row for the family was pending between the read of the record and the read
        of the graph, and the record is unchanged afterwards. Past the deadline (`late`), a family whose version in the
        graph moved is dropped, as the relay projected it meanwhile; a family whose version did not move is drifting,
        even if rows for it are still pending.
        """
        states = await read_states(self._pool, ids)
        pending = set(await self._pool.fetchval(sql("verify_pending"), ids))
        differing = await self.differing(states)
        again = {state["id"]: state for state in await read_states(self._pool, list(differing))}
        certain, undecided = [], []
        for state in states:
            if (difference := differing.get(state["id"])) is None:
                continue
            at_rest = state["id"] not in pending and state == again[state["id"]]
            if at_rest or (late and difference.shown_version == self._families[state["id"]]):
                certain.append(Finding("family", state["id"], difference.names))
            elif not late:
                undecided.append(state["id"])
        return certain, undecided

    async def _confirmed_rest(self) -> list[Finding]:
        contacts, families = await self._ask(
            "still_there", contacts=self._strange_contacts, families=self._strange_families
        )
        found = await self._find_loose(FINDINGS_MAX) if any(self._loose.values()) else {}
        return [
            *(Finding("contact", contact_id, ("not in the record",)) for contact_id in contacts),
            *(Finding("family", family_id, ("not in the record",)) for family_id in families),
            *(Finding("contact", contact_id, ("in no family of the record",)) for contact_id in self._stranded),
            *(
                Finding(kind, ref, ("belongs to nothing",))  # type: ignore[arg-type]
                for kind, suspected in self._loose.items()
                for ref in sorted(set(suspected).intersection(found.get(kind, ())))
            ),
        ]

    async def _find_loose(self, limit: int) -> dict[str, list[str]]:
        return dict(zip(("identifier", "tie", "node"), await self._ask("find_loose", limit=limit), strict=True))

    async def _graph_ids(self, statement: str) -> AsyncIterator[list[Any]]:
        after = _BEFORE_ALL_IDS
        while True:
            (rows,) = await self._ask(statement, after=after, limit=_BATCH_IDS)
            if not rows:
                return
            yield rows
            after = rows[-1] if isinstance(rows[-1], int) else rows[-1][0]

    async def _ask(self, statement: str, **parameters: object) -> list[Any]:
        return await ask(self._driver, statement, parameters, timeout_seconds=VERIFY_TIMEOUT_SECONDS)

    def _suspects(self) -> int:
        return (
            len(self._families)
            + len(self._strange_contacts)
            + len(self._strange_families)
            + len(self._stranded)
            + sum(map(len, self._loose.values()))
        )

    def _room(self) -> int:
        return max(0, FINDINGS_MAX - self._suspects())
