"""GraphQL over HTTP, as its reference implementation audits a server."""

import json
from pathlib import Path

from tests.stage.commands import told
from tests.stage.running import ApiServer

# The audits are of an older draft. The edition of September 2026 wants 422 where variables do not fit.
DEPARTURES = {
    "86EE": "SHOULD use a status code of 400 on variable coercion failure"
    " when accepting application/graphql-response+json"
}


async def test_every_must_and_should_is_kept(server: ApiServer, judges: Path) -> None:
    audits = json.loads(await told("node", "audit.js", f"{server.url}/graphql", cwd=judges))
    binding = [audit for audit in audits if audit["name"].startswith(("MUST", "SHOULD"))]
    assert len(binding) > 30
    assert {audit["id"]: audit["name"] for audit in binding if audit["status"] != "ok"} == DEPARTURES
