"""`nexus-graph status`: where the running stack is, for a person or (`--json`) for a script."""

import asyncio
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from nexus_graph.devstack.status import read

MASKED = "********"


def report(data_dir: Path, *, as_json: bool) -> int:
    """Print the status of the stack in `data_dir`; return 0 if it is ready, else 1. Only JSON shows passwords."""
    status = asyncio.run(read(data_dir))
    if as_json:
        print(json.dumps(status))
    else:
        _print_table(status, data_dir)
    return 0 if status["ready"] else 1


def masked(url: str) -> str:
    """Hide the password of a URL."""
    head, at, tail = url.rpartition("@")
    scheme, separator, credentials = head.partition("://")
    if not at or not separator:
        return url
    user, colon, _ = credentials.partition(":")
    return f"{scheme}://{user}{colon}{MASKED if colon else ''}@{tail}"


def _print_table(status: dict[str, Any], data_dir: Path) -> None:
    console = Console(highlight=False)
    if not status["ready"]:
        console.print(f"not ready: {status['reason']}", style="yellow", markup=False)
        console.print(f"Start it with: nexus-graph up --data-dir {data_dir}", markup=False)
        return
    table = Table(title="ready", title_justify="left", title_style="bold green", show_header=False)
    rows = {
        "GraphQL": f"{status['api']}/graphql" if status["api"] else "not started",
        "Neo4j Browser": status["neo4j_browser"],
        "Neo4j": f"{status['neo4j_uri']}  user {status['neo4j_user']}",
        "PostgreSQL": masked(status["database_url"]),
        "Valkey": masked(status["redis_url"]),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    console.print(f"With passwords: nexus-graph status --json --data-dir {data_dir}", markup=False)
