"""Tokens (JWT) of users: who a token says its bearer is, once its signature and its claims have been checked."""

import re
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final, Literal, get_args

from joserfc import jws
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry
from joserfc.util import urlsafe_b64decode

from nexus_graph.config import Settings
from nexus_graph.door.jwks import Jwks
from nexus_graph.door.key_set import KeySet, canonical, is_kid
from nexus_graph.door.key_sources import source_of
from nexus_graph.door.permissions import Role, roles_named
from nexus_graph.door.principal import Principal
from nexus_graph.door.strict_json import NotStrict, parse_object
from nexus_graph.errors import KeysUnavailable, Unauthenticated
from nexus_graph.telemetry import TOKENS

BYTES_MAX: Final = 8 * 1024
"""The longest token: those of large issuers have 1 to 4 kB."""

LEEWAY_SECONDS: Final = 60
"""How far the issuer's clock may be from ours."""

VERDICTS_MAX: Final = 4_096
"""Tokens that a process remembers as checked, in 2 MB: a check costs a tenth of a millisecond and more."""

FORBIDDEN_IN_HEADER: Final = frozenset({"jku", "jwk", "x5u", "x5c", "crit", "b64"})
"""Keys that the token brings along, and rules of its own (RFC 7515, RFC 7797)."""

_is_compact: Final = re.compile(rb"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+").fullmatch

Refusal = Literal["no_issuer", "too_long", "malformed", "algorithm", "key", "signature", "claims", "expired"]
Result = Literal[Refusal, "verified", "remembered", "keys_unavailable"]
_COUNTS: Final = {result: TOKENS.labels(result) for result in get_args(Result)}


class _Refused(Exception):
    """The token does not count. The reason is for the metric alone."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason)
        self.reason = reason


class Tokens:
    """The tokens of the issuer that the settings name; none is accepted where they name none."""

    def __init__(
        self, settings: Settings, *, now: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`now` gives the seconds since 1970; `clock` measures the age of the keys."""
        self._now = now
        self._issuer = settings.jwt_issuer or ""
        self._algorithms = frozenset(settings.jwt_algorithms)
        self._roles_claim = settings.jwt_roles_claim
        self._registry = _Registry(self._algorithms)
        self._claims = JWTClaimsRegistry(
            now=lambda: int(now()),
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": settings.jwt_audience or ""},
            exp={"essential": True},
            sub={"essential": True},
        )
        self._jwks: Jwks | None = None
        if settings.jwt_jwks is not None:
            self._jwks = Jwks(source_of(settings), max_age_seconds=settings.jwt_jwks_max_age_seconds, clock=clock)
        self._verdicts: dict[bytes, Principal] = {}
        self._verdicts_by: KeySet | None = None

    async def start(self) -> None:
        """Read the keys, and keep them. Raises UnusableAddress for a file that holds none."""
        if self._jwks is not None:
            await self._jwks.start()

    async def close(self) -> None:
        """Stop reading keys."""
        if self._jwks is not None:
            await self._jwks.close()

    def remembered(self, token: bytes) -> Principal | None:
        """The principal of a token that was checked before, by the keys of today, and has not expired."""
        if self._jwks is None or len(token) > BYTES_MAX:
            return None
        try:
            keys = self._jwks.current()
        except KeysUnavailable:
            return None
        if keys is not self._verdicts_by:
            self._verdicts.clear()
            self._verdicts_by = keys
        principal = self._verdicts.get(sha256(token).digest())
        if principal is None or principal.expires_at is None or self._now() >= principal.expires_at:
            return None
        _COUNTS["remembered"].inc()
        return principal

    async def principal(self, token: bytes) -> Principal:
        """Who a token speaks for; `expires_at` is its claim `exp`. Raises Unauthenticated, in the same words for every
        token that does not count, and KeysUnavailable.
        """
        if (known := self.remembered(token)) is not None:
            return known
        try:
            principal, keys = await self._judged(token)
        except _Refused as refused:
            _COUNTS[refused.reason].inc()
            raise Unauthenticated from None
        except KeysUnavailable:
            _COUNTS["keys_unavailable"].inc()
            raise
        _COUNTS["verified"].inc()
        self._remember(token, principal, keys)
        return principal

    def _remember(self, token: bytes, principal: Principal, keys: KeySet) -> None:
        if keys is self._verdicts_by and self._now() < (principal.expires_at or 0.0):
            if len(self._verdicts) >= VERDICTS_MAX:
                del self._verdicts[next(iter(self._verdicts))]
            self._verdicts[sha256(token).digest()] = principal

    async def _judged(self, token: bytes) -> tuple[Principal, KeySet]:
        """The principal, and the keys that show it. Raises _Refused, KeysUnavailable."""
        if self._jwks is None:
            raise _Refused("no_issuer")
        kid, algorithm = self._named_key(_header(token))
        keys = self._jwks.current()
        if kid is not None and not keys.has(kid):
            await self._jwks.look_again()
            keys = self._jwks.current()
        claims = self._checked_claims(self._signed_payload(token, keys, kid, algorithm))
        try:
            return self._principal_of(claims), keys
        except (ValueError, OverflowError):  # a subject or an issuer outside Unicode; a time past all numbers
            raise _Refused("claims") from None

    def _named_key(self, header: dict[str, Any]) -> tuple[str | None, str]:
        """Name and algorithm of the key. Raises _Refused."""
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or canonical(algorithm) not in self._algorithms:
            raise _Refused("algorithm")
        if kid is not None and not (isinstance(kid, str) and is_kid(kid)):
            raise _Refused("malformed")
        return kid, canonical(algorithm)

    def _signed_payload(self, token: bytes, keys: KeySet, kid: str | None, algorithm: str) -> bytes:
        """What the key has signed. Raises _Refused."""
        key = keys.key(kid, algorithm)
        if key is None:
            raise _Refused("key")
        try:
            # The registry names the algorithms. Each checks the key's type again.
            return jws.deserialize_compact(token, key, registry=self._registry).payload
        except (JoseError, ValueError, RecursionError):  # the library parses the header again, at another depth
            raise _Refused("signature") from None

    def _checked_claims(self, payload: bytes) -> dict[str, Any]:
        """The claims, once they were found to be for us and for now. Raises _Refused."""
        try:
            claims = parse_object(payload)
            self._claims.validate(claims)
        except ExpiredTokenError:
            raise _Refused("expired") from None
        except (JoseError, NotStrict):
            raise _Refused("claims") from None
        return claims

    def _principal_of(self, claims: dict[str, Any]) -> Principal:
        return Principal(
            user_name(self._issuer, claims["sub"]), _roles(claims, self._roles_claim), expires_at=float(claims["exp"])
        )


class _Registry(JWSRegistry):
    """The algorithms of the settings. EdDSA is checked as Ed25519, without the library's warning at each token."""

    max_header_length = BYTES_MAX
    max_signature_length = BYTES_MAX

    def __init__(self, algorithms: frozenset[str]) -> None:
        # What a header may hold besides is judged by `_header`: unknown members have no meaning (RFC 7515, section 4).
        super().__init__(algorithms=algorithms, strict_check_header=False)

    def get_alg(self, name: str) -> Any:
        return super().get_alg(canonical(name))


def user_name(issuer: str, subject: str) -> str:
    """The name of a user in audit, limits and logs: `user:` and 32 hexadecimal digits, from which nobody learns the
    subject. Raises UnicodeEncodeError.
    """
    digest = sha256()
    for text in (issuer.encode("utf-8"), subject.encode("utf-8")):
        digest.update(len(text).to_bytes(4, "big") + text)
    return f"user:{digest.hexdigest()[:32]}"


def _header(token: bytes) -> dict[str, Any]:
    """The members of the header. Raises _Refused."""
    if len(token) > BYTES_MAX:
        raise _Refused("too_long")
    if (parts := _is_compact(token)) is None:
        raise _Refused("malformed")
    try:
        header = parse_object(urlsafe_b64decode(parts[1]))
    except ValueError:  # NotStrict is one
        raise _Refused("malformed") from None
    if not FORBIDDEN_IN_HEADER.isdisjoint(header):
        raise _Refused("malformed")
    return header


def _roles(claims: dict[str, Any], path: str) -> frozenset[Role]:
    """The roles that a claim names. A claim whose whole name is the path goes first: names may be URLs with dots."""
    found: Any = claims
    for name in (path,) if path in claims else path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    if isinstance(found, str):
        found = found.split()
    return roles_named([name for name in found if isinstance(name, str)] if isinstance(found, list) else [])
