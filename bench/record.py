"""What the benchmark does in the record itself: it loads people, and counts what the load did."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import asyncpg

from bench.lag import PROBE_REQUEST
from bench.pgbench import Record
from bench.statements import statement
from bench.workload import MIX, OUTCOMES, Pairing, grown_families
from nexus_graph.model import Outcome
from nexus_graph.store.database import Pool

LOAD_BATCH: Final = 64
OUTCOME_OF_EVENT: Final = {
    "contact_created": Outcome.CREATED,
    "contact_linked": Outcome.LINKED,
    "families_merged": Outcome.MERGED,
}


async def load(pool: Pool, pairings: Iterator[Pairing]) -> list[asyncpg.Record]:
    """Identify each, in turn; the answers, in order."""
    answers: list[asyncpg.Record] = []
    while batch := list(islice(pairings, LOAD_BATCH)):
        emails, phones = zip(*(pairing.identifiers for pairing in batch), strict=True)
        answers += await pool.fetch(statement("load_people.sql"), emails, phones)
    return answers


async def load_families(pool: Pool, *, count: int, contacts: int, seed: int) -> list[list[int]]:
    """Families apart from the mix; the contact ids of each."""
    answers = await load(pool, grown_families(count, contacts=contacts, seed=seed))
    families = [list(answer["contact_ids"]) for answer in answers[contacts - 1 :: contacts]]
    assert all(len(family) == contacts for family in families)
    return families


async def event_mark(pool: Pool) -> int:
    """Where the events end now."""
    return int(await pool.fetchval(statement("event_last.sql")))


async def outcome_shares(pool: Pool, *, since: int, requests: int) -> dict[str, float]:
    """The outcomes since a mark, as shares of all requests. What left no event was a repeat; probes do not count."""
    rows = await pool.fetch(statement("events_since.sql"), since, PROBE_REQUEST)
    counts = {row["kind"]: row["count"] for row in rows}
    shares = {outcome.value: counts.get(kind, 0) / requests for kind, outcome in OUTCOME_OF_EVENT.items()}
    return {**shares, Outcome.MATCHED.value: 1 - sum(shares.values())}


def expected_shares() -> dict[str, float]:
    """What they are in the mix."""
    return {OUTCOMES[kind].value: share for kind, share in MIX.items()}


async def settings(pool: Pool) -> dict[str, str]:
    """The server's settings that matter here (statements/settings.sql)."""
    return {row["name"]: row["setting"] for row in await pool.fetch(statement("settings.sql"))}


async def connected(pool: Pool, url: str) -> Record:
    """How pgbench reaches the server that `url` names: by its first socket."""
    found = await settings(pool)
    folder = Path(found["unix_socket_directories"].split(",")[0].strip())
    return Record(url, socket_folder=folder, port=int(found["port"]))
