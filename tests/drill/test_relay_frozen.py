"""The active relay is frozen: how long until another brings changes to the graph, with default settings."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import pytest

from nexus_graph.config import Settings
from nexus_graph.store.database import Pool
from nexus_graph.store.lease import RELAY_KEY
from tests.integration.test_relay_lease import relay_process
from tests.stage.graphing import identify, outbox_rows, relaying

pytestmark = pytest.mark.drill

ROUNDS = 5
REPLACED_MAX_SECONDS = 5.0


async def test_a_frozen_relay_is_replaced(settings: Settings, pool: Pool) -> None:
    """From its last sign of life to the first change that another brings to the graph, by the record's clock."""
    took = []
    async with relaying(settings, patience_seconds=120) as first:  # lets the graph's server plan what relays ask
        await first.drained()
    for number in range(ROUNDS):
        projected = asyncio.Event()
        async with relay_process(settings) as frozen, relaying(settings, on_projected=_setting(projected)) as other:
            frozen.send_signal(signal.SIGSTOP)
            renewed_at = await pool.fetchval("SELECT renewed_at FROM relay_lease WHERE key = $1", RELAY_KEY)
            assert not other.active.is_set()
            await identify(pool, (f"a{number}@x.example", None))
            await projected.wait()
            took.append(await pool.fetchval("SELECT extract(epoch FROM clock_timestamp() - $1)::float8", renewed_at))
            await other.drained()
            assert await outbox_rows(pool) == []
    print(
        f"{ROUNDS} relays frozen: from the last renewal to the first projection by another "
        f"{', '.join(f'{seconds:.2f}' for seconds in took)} s"
    )
    assert max(took) <= REPLACED_MAX_SECONDS


def _setting(event: asyncio.Event) -> Callable[[], Awaitable[None]]:
    async def set_it() -> None:
        event.set()

    return set_it
