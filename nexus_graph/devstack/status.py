"""The status of the stack in a data directory: ready or not, and its addresses."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from nexus_graph.devstack import probes
from nexus_graph.devstack.datadir import DataDirectory
from nexus_graph.devstack.stack import StackUrls


def read_status(data_dir: Path) -> dict[str, Any] | None:
    """Return the addresses of the stack in `data_dir`; None if no stack runs there. Probes no server."""
    written, _ = DataDirectory(data_dir).read_status()
    return None if written is None else _urls(written)


async def read(data_dir: Path) -> dict[str, Any]:
    """Return `{"ready": true, …}` with all that StackUrls has, or `{"ready": false, "reason": …}`.

    Ready means: the `up` that wrote the status is alive, and its API answers. A stack of servers only has no API.
    """
    written, reason = DataDirectory(data_dir).read_status()
    if written is None:
        return {"ready": False, "reason": reason}
    urls = _urls(written)
    if urls["api"]:
        health = await probes.http(f"{urls['api']}/health")
        if not health.ok:
            return {"ready": False, "reason": f"the API at {urls['api']} does not answer: {health.reason}", **urls}
    return {"ready": True, **urls}


def _urls(written: dict[str, Any]) -> dict[str, Any]:
    return {field.name: written.get(field.name) for field in fields(StackUrls)}
