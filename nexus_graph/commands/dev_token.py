"""`nexus-graph dev-token`: a token for a developer's own stack."""

import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from errno import EIO
from pathlib import Path
from typing import Final

from nexus_graph.door import dev_key
from nexus_graph.door.permissions import Role
from nexus_graph.failures import say

EXIT_USAGE: Final = 2
SECONDS: Final = range(1, 90 * 86_400 + 1)
"""How long a token may work: only a new key revokes it."""
SUBJECT_MAX_CHARS: Final = 255
"""The longest subject (OpenID Connect Core, section 2)."""


def run(data_dir: Path, roles: Sequence[Role], subject: str, seconds: int, *, as_json: bool) -> int:
    """Print the token; the exit code."""
    if seconds not in SECONDS:
        say("--expires must be 1s to 90d")
        return EXIT_USAGE
    if not subject.isprintable() or not 0 < len(subject) <= SUBJECT_MAX_CHARS:
        say(f"--subject must be 1 to {SUBJECT_MAX_CHARS} printable characters")
        return EXIT_USAGE
    try:
        made = dev_key.sign(data_dir, roles=list(dict.fromkeys(roles)), subject=subject, seconds=seconds)
    except dev_key.UnusableKey as error:
        say(str(error))
        return 1
    except OSError as error:
        say(f"the key in {data_dir} cannot be read or written: {os.strerror(error.errno or EIO)}")
        return 1
    if any(os.environ.get(name) for name in dev_key.ISSUER_VARIABLES):
        say("NEXUS_JWT_ISSUER is set in this environment: a server that runs in it takes no such token")
    sys.stdout.write((_as_json(made) if as_json else made.token) + "\n")
    return 0


def _as_json(made: dev_key.DevToken) -> str:
    return json.dumps(
        {
            "id": made.id,
            "name": made.name,
            "roles": [role.value for role in made.roles],
            "key": made.token,
            "expires": datetime.fromtimestamp(made.expires_at, UTC).isoformat(),
        }
    )
