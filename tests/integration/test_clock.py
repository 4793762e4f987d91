"""The clock of PostgreSQL's machine is set back by an hour: seniority and moments still follow the order of commits."""

import os
import random

from nexus_graph.config import Settings
from nexus_graph.store.database import Pool
from tests.property.fleet import fleet, record_history
from tests.property.history import final_state_violations, violations

_SET_BACK = """
    UPDATE contacts SET created_at = created_at + interval '1 hour', updated_at = updated_at + interval '1 hour';
    UPDATE identity_events SET at = at + interval '1 hour';
"""
"""What was written before the clock was set back bears later moments than the clock shows now."""


async def test_identify_follows_the_order_of_commits_when_the_clock_is_set_back(settings: Settings, pool: Pool) -> None:
    seed = int(os.environ.get("NEXUS_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"NEXUS_TEST_SEED={seed}")
    async with fleet(settings, 2) as servers:
        history = await record_history(servers, keys=100, seed=seed, count=600)
        await pool.execute(_SET_BACK)
        before = await pool.fetchval("SELECT max(seq) FROM identity_events")
        history += await record_history(servers, keys=200, seed=seed + 1, count=600)
    assert violations(history) == []
    assert await final_state_violations(pool, history) == []
    events = await pool.fetch("SELECT seq, at FROM identity_events ORDER BY seq")
    moments = [event["at"] for event in events]
    assert events[-1]["seq"] > before
    assert moments == sorted(set(moments))
