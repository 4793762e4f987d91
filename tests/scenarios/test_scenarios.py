"""Every scenario of the YAML files beside this one, through REST and GraphQL alike, on real servers.

A file is a list of scenarios: `name`, `settings` (overrides, if any) and `steps`. A step is one of
- `identify`: the request as sent, with `outcome` and `family` (primary, secondaries, emails, phones), or `error`
  (the fields at fault);
- `sql`: a statement run on the record as its owner.
`same` says that a step's family is that of the step before.
"""

from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from nexus_graph.config import Settings
from nexus_graph.store.database import Pool
from tests.scenarios.callers import CONTACT_FAMILY, Caller, FamilySeen, GraphQLCaller, RestCaller, family_seen
from tests.stage.running import running_api, running_relay

SCENARIOS = [
    pytest.param(scenario, id=f"{path.stem}-{scenario['name'].replace(' ', '_')}")
    for path in sorted(Path(__file__).parent.glob("*.yaml"))
    for scenario in yaml.safe_load(path.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("transport", [RestCaller, GraphQLCaller], ids=lambda transport: transport.name)
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_scenario(
    scenario: dict[str, Any], transport: type[RestCaller | GraphQLCaller], settings: Settings, pool: Pool
) -> None:
    settings = settings.model_copy(update=scenario.get("settings", {}))
    async with (
        running_relay(settings),
        running_api(settings) as server,
        httpx2.AsyncClient(base_url=server.url, timeout=10) as client,
    ):
        caller = transport(client)
        family: FamilySeen | None = None
        for number, step in enumerate(scenario["steps"], start=1):
            family = await _take(step, caller, pool, family, where=f"step {number}")
        if family is not None:
            await _check_reads(family, GraphQLCaller(client), pool)


async def _take(
    step: dict[str, Any], caller: Caller, pool: Pool, before: FamilySeen | None, *, where: str
) -> FamilySeen | None:
    if "sql" in step:
        await pool.execute(step["sql"])
        return before
    written = await _written(pool)
    answer = await caller.identify(step["identify"])
    if "error" in step:
        assert (answer.code, sorted(answer.fields)) == ("BAD_USER_INPUT", _told(caller, step["error"])), where
        assert await _written(pool) == written, where
        return before
    expected = before if step.get("same") else FamilySeen(**step["family"])
    assert (answer.outcome, answer.family) == (step["outcome"], expected), where
    if answer.outcome == "MATCHED" and not step.get("evidence"):
        assert await _written(pool) == written, where
    return answer.family


def _told(caller: Caller, fields: list[str]) -> list[str]:
    """GraphQL's `field` is one field; where two are at fault it is null, and the message names them."""
    return [] if caller.name == "graphql" and len(fields) > 1 else sorted(fields)


async def _check_reads(family: FamilySeen, graphql: GraphQLCaller, pool: Pool) -> None:
    """Whoever reads the last family finds it the same: by any id or identifier of it, from either store."""
    version = await pool.fetchval("SELECT max(seq) FROM identity_events WHERE family_id = $1", family.primary)
    lookups = [
        *({"contactId": id_} for id_ in (family.primary, *family.secondaries)),
        *({"email": email} for email in family.emails),
        *({"phoneNumber": phone} for phone in family.phones),
    ]
    for by in lookups:
        for variables in ({"source": "RECORD"}, {"atLeast": version}):
            told = (await graphql.execute(CONTACT_FAMILY, {"by": by, **variables}))["contactFamily"]
            assert family_seen(told) == family, (by, variables)
            assert told["version"] == version, (by, variables)


async def _written(pool: Pool) -> tuple[Any, ...]:
    """A mark that every write moves."""
    row = await pool.fetchrow("""
        SELECT (SELECT count(*) FROM contacts), (SELECT max(updated_at) FROM contacts),
               (SELECT count(*) FROM evidence), (SELECT count(*) FROM identity_events), (SELECT count(*) FROM aliases)
    """)
    assert row is not None
    return tuple(row)
