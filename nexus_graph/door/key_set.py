"""The keys of a JWK set (RFC 7517) that check signatures."""

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from joserfc.jwk import ECKey, OKPKey, RSAKey

from nexus_graph.door.strict_json import NotStrict, parse_object

KEYS_MAX: Final = 64
"""The most keys of a set: large issuers have up to ten."""

KID_MAX_CHARS: Final = 256
"""The longest name of a key."""

_RSA_BITS: Final = range(2_048, 8_192 + 1)
"""Shorter keys can be broken; longer ones make every check slow."""
_RSA_CHARS: Final = range(342, 1_366 + 1)
"""The lengths of such a modulus in base64url."""

_RSA_ALGORITHMS: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_EC_ALGORITHMS: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}

is_kid: Final = re.compile(rf"[^\x00-\x1f\x7f]{{1,{KID_MAX_CHARS}}}").fullmatch

PublicKey = RSAKey | ECKey | OKPKey


class UnusableKeys(ValueError):
    """What was read is no JWK set with a usable key, or cannot be read. The message is a predicate of the place, and
    holds nothing of what was read.
    """


class UsableKey(NamedTuple):
    """A key that checks signatures."""

    kid: str | None
    algorithms: frozenset[str]
    """Those that its type, its curve and its member `alg` allow."""
    key: PublicKey


class KeySet:
    """The usable keys of a set, by name and algorithm."""

    def __init__(self, keys: Iterable[UsableKey]) -> None:
        self._named: dict[tuple[str, str], PublicKey] = {}
        self._fitting: dict[str, list[PublicKey]] = {}
        for usable in keys:
            for algorithm in usable.algorithms:
                self._fitting.setdefault(algorithm, []).append(usable.key)
                if usable.kid is not None:
                    self._named.setdefault((usable.kid, algorithm), usable.key)
        self._kids = {kid for kid, _ in self._named}

    def has(self, kid: str) -> bool:
        """True if a key has this name, whatever its algorithms."""
        return kid in self._kids

    def key(self, kid: str | None, algorithm: str) -> PublicKey | None:
        """The key of this name, if the key itself allows the algorithm. Without a name: the only key that does."""
        if kid is not None:
            return self._named.get((kid, algorithm))
        fitting = self._fitting.get(algorithm, ())
        return fitting[0] if len(fitting) == 1 else None


def canonical(algorithm: str) -> str:
    """The algorithm's name of today: EdDSA (RFC 8037) is Ed25519 (RFC 9864) here, as no other curve is taken."""
    return "Ed25519" if algorithm == "EdDSA" else algorithm


def key_set_of(content: bytes) -> KeySet:
    """The usable keys. Keys for encryption, symmetric keys and unknown types are left out; of a private key only the
    public part is taken. Raises UnusableKeys.
    """
    try:
        listed = parse_object(content).get("keys")
    except NotStrict:
        raise UnusableKeys("is no JSON object") from None
    if not isinstance(listed, list) or len(listed) > KEYS_MAX:
        raise UnusableKeys(f"has no list `keys` of at most {KEYS_MAX} keys")
    usable = [found for found in map(_usable, listed) if found is not None]
    if not usable:
        raise UnusableKeys("has no key that checks signatures")
    return KeySet(usable)


def _usable(jwk: object) -> UsableKey | None:
    """The key, if it can check signatures."""
    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
        return None
    operations, kid, intended = jwk.get("key_ops", ["verify"]), jwk.get("kid"), jwk.get("alg")
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    if kid is not None and not (isinstance(kid, str) and is_kid(kid)):
        return None
    try:
        algorithms, key = _read(jwk)
    except Exception:  # noqa: BLE001 - the libraries raise errors of many kinds for numbers that are no key
        return None
    if intended is not None:
        algorithms &= {canonical(intended)} if isinstance(intended, str) else set()
    return UsableKey(kid, algorithms, key) if algorithms else None


def _read(jwk: dict[str, Any]) -> tuple[frozenset[str], PublicKey]:
    """The algorithms that the key's type allows, and the key. Raises any error if it is no key."""
    kind, curve = jwk.get("kty"), jwk.get("crv")
    if kind == "RSA":
        if len(jwk["n"]) not in _RSA_CHARS:
            raise ValueError("too short, or too long")
        rsa = RSAKey.import_key(_only(jwk, "kty", "n", "e"))
        if rsa.public_key.key_size not in _RSA_BITS:
            raise ValueError("too short, or too long")
        return _RSA_ALGORITHMS, rsa
    if kind == "EC":
        return frozenset({_EC_ALGORITHMS[str(curve)]}), ECKey.import_key(_only(jwk, "kty", "crv", "x", "y"))
    if kind == "OKP" and curve == "Ed25519":
        return frozenset({"Ed25519"}), OKPKey.import_key(_only(jwk, "kty", "crv", "x"))
    raise ValueError("of another type")


def _only(jwk: dict[str, Any], *names: str) -> dict[str, str | list[str]]:
    """The public members alone. Raises KeyError."""
    return {name: jwk[name] for name in names}
