"""The key of a data directory, which signs tokens for its developers: `nexus-graph dev-token` signs, `up` accepts.

Only the owner of the data directory can read the key, and only a server on a loopback address is told of it.
"""

import json
import os
import stat
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, NamedTuple

from joserfc import jwt
from joserfc.jwk import ECKey

from nexus_graph.door.permissions import Role
from nexus_graph.door.tokens import user_name

ISSUER: Final = "nexus-graph-dev"
AUDIENCE: Final = "nexus-graph"
ALGORITHM: Final = "ES256"

ISSUER_VARIABLES: Final = ("NEXUS_JWT_ISSUER", "NEXUS_JWT_AUDIENCE", "NEXUS_JWT_JWKS")
"""Variables that name an issuer of the operator's own."""

_KEY: Final = "dev-token-key.json"
_KEY_SET: Final = "dev-token-jwks.json"
_OWNER_ONLY: Final = 0o600
_NOBODY_ELSE: Final = 0o077


class UnusableKey(ValueError):
    """The data directory's key cannot be used; the message says why and what to do."""


class DevToken(NamedTuple):
    """A token, and what it says."""

    id: str
    name: str
    """Of the principal."""
    roles: tuple[Role, ...]
    token: str
    expires_at: int
    """Seconds since 1970."""


def sign(data_dir: Path, *, roles: Sequence[Role], subject: str, seconds: int) -> DevToken:
    """A token that is valid for so long. Makes the key if there is none. Raises UnusableKey, OSError."""
    key = _key(data_dir)
    now = int(time.time())
    token_id, expires_at = token_hex(8), now + seconds
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": subject,
        "roles": [role.value for role in roles],
        "iat": now,
        "exp": expires_at,
        "jti": token_id,
    }
    token = jwt.encode({"alg": ALGORITHM, "kid": key.kid, "typ": "JWT"}, claims, key, algorithms=[ALGORITHM])
    return DevToken(token_id, user_name(ISSUER, subject), tuple(roles), token, expires_at)


def environment(data_dir: Path) -> dict[str, str]:
    """The variables by which a server takes these tokens. Makes the key if there is none.

    Raises UnusableKey, OSError.
    """
    _key(data_dir)
    return {
        "NEXUS_JWT_ISSUER": ISSUER,
        "NEXUS_JWT_AUDIENCE": AUDIENCE,
        "NEXUS_JWT_JWKS": str((data_dir / _KEY_SET).absolute()),
        "NEXUS_JWT_ALGORITHMS": ALGORITHM,
        "NEXUS_JWT_ROLES_CLAIM": "roles",
    }


def _key(data_dir: Path) -> ECKey:
    """The key, with its public part beside it."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o711)  # as `up` makes it
    path = data_dir / _KEY
    if not path.exists():
        made = ECKey.generate_key("P-256", auto_kid=True)
        _write_new(path, made.as_dict(private=True, use="sig", alg=ALGORITHM))
    key = _read(path)
    public = data_dir / _KEY_SET
    listed = json.dumps({"keys": [key.as_dict(private=False)]}, indent=2) + "\n"
    if not public.exists() or public.read_text() != listed:
        _replace(public, listed)
    return key


def _read(path: Path) -> ECKey:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & _NOBODY_ELSE:
            raise UnusableKey(f"others can read {path} and sign with it: remove it, and a new one is made")
        content = file.read()
    with suppress(Exception):  # the library raises errors of many kinds
        key = ECKey.import_key(json.loads(content))
        if key.is_private and key.kid:
            return key
    raise UnusableKey(f"{path} holds no key: remove it, and a new one is made")


def _write_new(path: Path, members: Mapping[str, Any]) -> None:
    """Write the key whole, unless another process was faster."""
    temporary = _temporary(path)
    _write(temporary, json.dumps(members, indent=2) + "\n")
    try:
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()


def _replace(path: Path, text: str) -> None:
    temporary = _temporary(path)
    _write(temporary, text)
    temporary.replace(path)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{token_hex(8)}")


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _OWNER_ONLY)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
