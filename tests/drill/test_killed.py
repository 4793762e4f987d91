"""Each process of the stack is killed under load: no acknowledged call is lost, no answer is wrong, all of it heals.

The history of all acknowledged calls is judged as in tests/property. A call that failed is sent again, as clients do.
"""

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import asyncpg
import psutil
import pytest

from bench.load.client import HttpClient, Response
from nexus_graph.devstack.process import ChildProcess
from nexus_graph.devstack.stack import Stack, StackOptions
from tests.property.fleet import identify_by_rest
from tests.property.history import Answered, final_state_violations, violations
from tests.stage.stacks import supervised, verified

pytestmark = pytest.mark.drill

PROCESSES = ("postgres", "valkey", "neo4j", "relay", "api")
NEEDED = {"postgres", "api"}
"""Calls fail while one of these is away. Without the others identify and reads of families go on."""
KILLS = 3
CLIENTS = 8
READERS = 2
KEYS = 400
"""Emails, and phones, of which a caller names one each. After as many calls new ones take their place, so that families
stay small however long a server takes to come back."""
PAUSE_SECONDS = 0.05
CALLS_BETWEEN = 200
"""Acknowledged calls before each death, and after the last."""
HEALED_MAX_SECONDS = 5.0
"""From the first login that PostgreSQL accepts to the end of the first write that was sent later."""
BACK_MAX_SECONDS = 180.0
FAMILY = "query F($email: EmailAddress!) { contactFamily(by: {email: $email}) { emails source } }"


class Load:
    """Clients that identify people, and readers who ask for families that were acknowledged."""

    def __init__(self, address: tuple[str, int], seed: int) -> None:
        self._address = address
        self._random = random.Random(seed)
        self._name = f"{seed:x}"
        self._changed = asyncio.Condition()
        self.history: list[Answered] = []
        self.failed: Counter[str] = Counter()
        self.unread: Counter[str] = Counter()
        self.sources: Counter[str] = Counter()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The clients are at work. Each call under way is acknowledged before the end."""
        self._stopping = False
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._identify())
            for _ in range(READERS):
                group.create_task(self._read())
            try:
                yield
            finally:
                self._stopping = True

    async def more(self, calls: int) -> None:
        """Return after so many more acknowledged calls."""
        wanted = len(self.history) + calls
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.history) >= wanted)

    async def first_sent_after(self, moment: float) -> Answered:
        """The first acknowledged call that was sent after `moment`."""

        def sent_later() -> list[Answered]:
            return [call for call in self.history[-CLIENTS:] if call.sent >= moment]

        async with self._changed:
            await self._changed.wait_for(sent_later)
        return sent_later()[0]

    async def _identify(self) -> None:
        async with HttpClient(*self._address) as http:
            while not self._stopping:
                first = len(self.history) // KEYS * KEYS
                email = f"e{first + self._random.randrange(KEYS)}.{self._name}@example.com"
                phone = f"{self._random.randrange(KEYS) + first + 10**8}{int(self._name, 16):05}"
                answered = None
                while answered is None:
                    await asyncio.sleep(PAUSE_SECONDS)
                    try:
                        answered = await identify_by_rest(http, email, phone, refused=self._refused)
                    except (OSError, TimeoutError) as error:
                        self.failed[type(error).__name__] += 1
                self.history.append(answered)
                async with self._changed:
                    self._changed.notify_all()

    def _refused(self, answer: Response) -> None:
        assert answer.status == 503, answer
        assert "retry-after" in answer.headers
        self.failed["503"] += 1

    async def _read(self) -> None:
        async with HttpClient(*self._address) as http:
            while not self._stopping:
                await asyncio.sleep(PAUSE_SECONDS)
                if not self.history:
                    continue
                email = self._random.choice(self.history).email
                body = json.dumps({"query": FAMILY, "variables": {"email": email}}).encode()
                try:
                    answer = await http.post("/graphql", body)
                except (OSError, TimeoutError) as error:
                    self.unread[type(error).__name__] += 1
                    continue
                family = (json.loads(answer.body).get("data") or {}).get("contactFamily")
                if family is None:
                    self.unread[str(answer.status)] += 1
                else:
                    assert email in family["emails"]
                    self.sources[family["source"]] += 1


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[Stack]:
    with TemporaryDirectory(prefix="nexus-drill-", ignore_cleanup_errors=True) as folder:
        options = StackOptions(
            data_dir=Path(folder), port=0, browser_port=0, bolt_port=0, quiet=True, env={"NEXUS_CACHE": "both"}
        )
        async with Stack(options) as stack, supervised(stack):
            yield stack


@pytest.fixture
def seed() -> int:
    """New calls each run; NEXUS_TEST_SEED repeats them."""
    return int(os.environ.get("NEXUS_TEST_SEED") or random.SystemRandom().randrange(2**16))


@pytest.mark.parametrize("name", PROCESSES)
async def test_a_process_is_killed_under_load(stack: Stack, name: str, seed: int) -> None:
    print(f"\n{name}: NEXUS_TEST_SEED={seed}")
    host, _, port = stack.urls.api.rpartition("//")[2].rpartition(":")
    load = Load((host, int(port)), seed)
    others = {process.name: process.pid for process in stack.processes if process.name not in {name, "migrate"}}
    healed = []
    async with load.running():
        for _ in range(KILLS):
            await load.more(CALLS_BETWEEN)
            restarts = stack.process(name).restarts
            await _killed(stack.process(name))
            if name == "postgres":
                accepted = await _accepts_logins(stack)
                healed.append((await load.first_sent_after(accepted)).answered - accepted)
            await _back(stack.process(name), restarts)
        await load.more(CALLS_BETWEEN)
    print(f"  {len(load.history)} acknowledged, {dict(load.failed)} sent again; reads {dict(load.sources)}")
    print(f"  reads without an answer {dict(load.unread)}; writes healed after {[round(took, 2) for took in healed]} s")
    assert others == {other: stack.process(other).pid for other in others}, "no other process died of it"
    if name not in NEEDED:
        assert (load.failed, load.unread) == ({}, {})
    assert all(took <= HEALED_MAX_SECONDS for took in healed)
    assert violations(load.history) == []
    async with asyncpg.create_pool(stack.urls.database_url, min_size=1, max_size=1) as pool:
        assert await final_state_violations(pool, load.history) == []
    assert await verified(stack)


async def _killed(process: ChildProcess) -> None:
    """SIGKILL, to its children as well."""
    family = psutil.Process(process.pid)
    for member in [family, *family.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    await process.wait()


async def _accepts_logins(stack: Stack) -> float:
    """The moment of the first login that PostgreSQL accepts."""
    async with asyncio.timeout(BACK_MAX_SECONDS):
        while True:
            with suppress(OSError, asyncpg.PostgresError):
                await (await asyncpg.connect(stack.urls.database_url)).close()
                return monotonic()
            await asyncio.sleep(0.02)


async def _back(process: ChildProcess, restarts: int) -> None:
    """Return once it serves again."""
    async with asyncio.timeout(BACK_MAX_SECONDS):
        while process.restarts == restarts:  # noqa: ASYNC110 - the supervisor tells no one
            await asyncio.sleep(0.05)
