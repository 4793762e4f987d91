"""Secrets that stand in files, as Kubernetes and Docker mount them, after a rotation.

A process reads the file at its start (`Settings`) and again for each new connection, so that a new password counts
without a restart. Connections that are open stay open: servers check a password at the login alone.
"""

from pathlib import Path
from typing import Final

from nexus_graph.config import SECRETS, Secret, Settings, UnreadableSecret, read_secret
from nexus_graph.telemetry import log

_LOG = log("secrets")

_last_good: Final[dict[Path, str]] = {}
"""The newest usable content of each file that was read again."""
_unreadable: Final[set[Path]] = set()


def secret_of(settings: Settings, name: Secret) -> str:
    """The secret as its file has it now. While the file is away or holds nothing usable, what it held last counts."""
    given: str = getattr(settings, name).get_secret_value()
    path: Path | None = getattr(settings, f"{name}_file")
    if path is None:
        return given
    try:
        _last_good[path] = read_secret(name, path)
    except UnreadableSecret as error:
        if path not in _unreadable:
            _unreadable.add(path)
            _LOG.warning("secret_not_read", variable=SECRETS[name], reason=str(error))
    else:
        _unreadable.discard(path)
    return _last_good.get(path, given)
