"""What /health says of a server."""

from typing import Any

import httpx2


def check_of(response: httpx2.Response, server: str) -> dict[str, Any]:
    """The server's check in the answer, but for the time that it took, which differs."""
    check: dict[str, Any] = dict(response.json()["checks"][server])
    assert 0 <= check.pop("responseSeconds") < 60
    return check
