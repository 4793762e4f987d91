"""Tokens: what counts, and that nothing else does."""

import base64
import hmac
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from prometheus_client import REGISTRY

from nexus_graph.config import JWT_ALGORITHMS, Settings
from nexus_graph.door import tokens as tokens_module
from nexus_graph.door.key_set import KeySet
from nexus_graph.door.permissions import Role
from nexus_graph.door.tokens import BYTES_MAX, VERDICTS_MAX, Tokens, user_name
from nexus_graph.errors import Unauthenticated
from tests.stage.issuing import (
    AUDIENCE,
    EC,
    ED,
    ISSUER,
    NOW,
    OTHER_RSA,
    OURS,
    RSA,
    Clock,
    claims,
    key_server,
    key_set,
    signed,
    token,
    unsigned,
)


def settings_of(place: Path | str, **more: Any) -> Settings:
    return Settings(jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks=str(place), **more)


@pytest.fixture
def jwks(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_bytes(OURS)
    return path


@asynccontextmanager
async def opened(place: Path | str, kind: type[Tokens] = Tokens, **more: Any) -> AsyncIterator[Tokens]:
    tokens = kind(settings_of(place, **more), now=Clock(NOW))
    await tokens.start()
    try:
        yield tokens
    finally:
        await tokens.close()


async def accepted(tokens: Tokens, presented: bytes) -> bool:
    """Whether it counts; if not, it is refused as every other."""
    try:
        await tokens.principal(presented)
    except Unauthenticated as error:
        refusal = error
    else:
        return True
    assert refusal.message == Unauthenticated().message
    assert refusal.challenge == 'Bearer error="invalid_token"'
    assert refusal.__cause__ is None
    assert refusal.__suppress_context__
    return False


# What counts


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(RSA, "RS256"), (EC, "ES256"), (ED, "Ed25519"), (ED, "EdDSA")],
    ids=lambda each: str(each)[:7],
)
async def test_a_token_of_each_algorithm_counts(jwks: Path, key: Any, algorithm: str) -> None:
    async with opened(jwks) as tokens:
        presented = token(key, algorithm)
        assert tokens.remembered(presented) is None
        principal = await tokens.principal(presented)
        assert principal.roles == {Role.STEWARD}
        assert principal.expires_at == NOW + 600
        assert principal.name == user_name(ISSUER, "ada")
        assert tokens.remembered(presented) is principal
        assert await tokens.principal(presented) is principal


@pytest.mark.parametrize("algorithm", JWT_ALGORITHMS)
async def test_every_algorithm_of_the_settings_can_be_chosen(tmp_path: Path, algorithm: str) -> None:
    curves = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
    key: Any = ECKey.generate_key(curves[algorithm], {"kid": "x"}) if algorithm in curves else RSA
    key = ED if algorithm == "Ed25519" else key
    (tmp_path / "set").write_bytes(key_set(key, alg=algorithm))
    async with opened(tmp_path / "set", jwt_algorithms=algorithm) as tokens:
        assert await accepted(tokens, token(key, algorithm))


@pytest.mark.parametrize("intended", ["EdDSA", "Ed25519"])
@pytest.mark.parametrize("algorithm", ["EdDSA", "Ed25519"])
async def test_eddsa_and_ed25519_are_one_algorithm(tmp_path: Path, intended: str, algorithm: str) -> None:
    (tmp_path / "set").write_bytes(key_set(ED, alg=intended))
    for listed in ("EdDSA", "Ed25519"):
        async with opened(tmp_path / "set", jwt_algorithms=listed) as tokens:
            assert await accepted(tokens, token(ED, algorithm))


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": [AUDIENCE]},
        {"aud": ["other", AUDIENCE]},
        {"exp": NOW - 59},
        {"exp": NOW + 0.5},
        {"iat": NOW + 60},
        {"nbf": NOW + 60},
        {"nbf": NOW - 60},
        {"iat": None},
        {"jti": "1"},
    ],
    ids=json.dumps,
)
async def test_claims_that_count(jwks: Path, changed: dict[str, Any]) -> None:
    async with opened(jwks) as tokens:
        assert await accepted(tokens, token(**changed))


async def test_members_of_a_header_without_meaning_are_ignored(jwks: Path) -> None:
    async with opened(jwks) as tokens:
        header = {"alg": "RS256", "kid": "rsa", "x5t": "abc", "tenant": {"a": 1}, "typ": "at+jwt"}
        assert await accepted(tokens, signed(header, claims(), RSA, "RS256"))


async def test_a_token_without_a_key_name_counts_if_only_one_key_fits(tmp_path: Path) -> None:
    (tmp_path / "set").write_bytes(OURS)
    async with opened(tmp_path / "set") as tokens:
        assert await accepted(tokens, token(kid=None))
        assert not await accepted(tokens, token(OTHER_RSA, kid=None))
    (tmp_path / "set").write_bytes(key_set(RSA, RSAKey.generate_key(2048, {"kid": "second"})))
    async with opened(tmp_path / "set") as tokens:
        assert not await accepted(tokens, token(kid=None))


@pytest.mark.parametrize(
    ("path", "more", "roles"),
    [
        ("roles", {"roles": ["reader", "service"]}, {Role.READER, Role.SERVICE}),
        ("roles", {"roles": "reader service"}, {Role.READER, Role.SERVICE}),
        ("scope", {"scope": "openid  steward"}, {Role.STEWARD}),
        ("roles", {"roles": ["root", "Reader", "admin ", 7, None, ["admin"]]}, set()),
        ("roles", {"roles": None}, set()),
        ("roles", {"roles": {"admin": True}}, set()),
        ("roles", {"roles": 1}, set()),
        ("realm_access.roles", {"realm_access": {"roles": ["operator"]}}, {Role.OPERATOR}),
        ("realm_access.roles", {"realm_access": ["operator"]}, set()),
        ("realm_access.roles", {"realm_access": "roles"}, set()),
        ("https://nexus.example/roles", {"https://nexus.example/roles": ["privacy"]}, {Role.PRIVACY}),
    ],
)
async def test_roles_of_a_claim(jwks: Path, path: str, more: dict[str, Any], roles: set[Role]) -> None:
    async with opened(jwks, jwt_roles_claim=path) as tokens:
        assert (await tokens.principal(token(**more))).roles == roles


def test_a_users_name_tells_issuer_and_subject_apart() -> None:
    assert user_name("ab", "c") != user_name("a", "bc")
    assert user_name("a", "ada") == user_name("a", "ada") != user_name("b", "ada")
    assert len(user_name("a", "ada")) == len("user:") + 32
    assert "ada" not in user_name("a", "ada")


# What does not


def _b64(text: bytes) -> bytes:
    return base64.urlsafe_b64encode(text).rstrip(b"=")


def _header(**members: Any) -> bytes:
    """A token with a true signature of our RSA key, and these members in its header."""
    return signed({"alg": "RS256", "kid": "rsa", **members}, claims(), RSA, "RS256")


def _by_hmac(secret: bytes, algorithm: str = "HS256") -> bytes:
    """A token whose secret is public. The library itself would not sign so."""
    content = unsigned({"alg": algorithm, "kid": "rsa"}, claims())
    return content + b"." + _b64(hmac.digest(secret, content, f"sha{algorithm[2:]}"))


def _payload(text: bytes) -> bytes:
    return signed({"alg": "RS256", "kid": "rsa"}, text, RSA, "RS256")


def _claims_text(more: str) -> bytes:
    return _payload((json.dumps(claims())[:-1] + ", " + more + "}").encode())


def _unsigned(algorithm: Any) -> bytes:
    return unsigned({"alg": algorithm, "kid": "rsa"}, claims()) + b"."


def _expiring(number: str) -> bytes:
    """A token whose `exp` is spelled so."""
    return _payload(f'{json.dumps(claims(exp=None))[:-1]}, "exp": {number}}}'.encode())


def _without(name: str) -> bytes:
    changed: dict[str, Any] = {name: None}
    return token(**changed)


def _null(name: str) -> bytes:
    return _payload(json.dumps({**claims(), name: None}).encode())


def _another_ending(presented: bytes) -> bytes:
    """The same signature, written with other unused bits at its end."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return presented[:-1] + bytes([alphabet[alphabet.index(presented[-1]) ^ 1]])


GOOD = token()
HEAD, BODY, SIGNATURE = GOOD.split(b".")
PEM = RSA.as_pem(private=False)
PSYCHIC = b".".join([*token(EC, "ES256").split(b".")[:2], _b64(bytes(64))])
X25519 = OKPKey.generate_key("X25519", {"kid": "x"})

ATTACKS: dict[str, bytes] = {
    # Algorithms
    "none": _unsigned("none"),
    "none with a signature": _unsigned("none") + SIGNATURE,
    "None": _unsigned("None"),
    "nOnE": _unsigned("nOnE"),
    "no algorithm": _unsigned(None),
    "alg is a list": _unsigned(["RS256"]),
    "alg is absent": signed({"kid": "rsa"}, claims(), RSA, "RS256"),
    "alg in lower case": signed({"alg": "rs256", "kid": "rsa"}, claims(), RSA, "RS256"),
    "HS256 with the PEM": _by_hmac(PEM),
    "HS256 with the PEM stripped": _by_hmac(PEM.strip()),
    "HS256 with the PEM in CRLF": _by_hmac(PEM.replace(b"\n", b"\r\n")),
    "HS256 with the PEM on one line": _by_hmac(PEM.replace(b"\n", b"")),
    "HS512 with the PEM": _by_hmac(PEM, "HS512"),
    "HS256 with the DER": _by_hmac(RSA.as_der(private=False)),
    "HS256 with the JWK": _by_hmac(json.dumps(RSA.as_dict(private=False)).encode()),
    "HS256 with the JWK set": _by_hmac(OURS),
    "RS512, not listed": token(RSA, "RS512"),
    "PS256, not listed": token(RSA, "PS256"),
    "RS256 with the EC key": token(RSA, "RS256", kid="ec"),
    "ES256 with the RSA key": token(EC, "ES256", kid="rsa"),
    "Ed25519 with the EC key": token(ED, "Ed25519", kid="ec"),
    "RS256 that is ES256": signed({"alg": "RS256", "kid": "ec"}, claims(), EC, "ES256"),
    "RS256 that is PS256": signed({"alg": "RS256", "kid": "rsa"}, claims(), RSA, "PS256"),
    "ES256 of zeros": PSYCHIC,
    # Keys
    "somebody else's key of that name": token(OTHER_RSA),
    "unknown key": token(kid="nobody"),
    "kid of a path": token(kid="../../../../dev/null"),
    "kid of SQL": token(kid="x' UNION SELECT 'secret"),
    "kid of an address": token(kid="http://127.0.0.1/keys"),
    "kid is empty": _header(kid=""),
    "kid is a number": _header(kid=1),
    "kid is a list": _header(kid=["rsa"]),
    "kid with a zero": _header(kid="rsa\0"),
    "kid of a thousand": _header(kid="r" * 1_000),
    "its own key": signed(
        {"alg": "RS256", "kid": "rsa", "jwk": OTHER_RSA.as_dict(private=False)}, claims(), OTHER_RSA, "RS256"
    ),
    "our key as its own": _header(jwk=RSA.as_dict(private=False)),
    "crit": _header(crit=["exp"]),
    "crit of nothing": _header(crit=[]),
    "crit and its member": _header(crit=["tenant"], tenant=1),
    "b64 is true": _header(b64=True),
    "b64 and crit": _header(b64=False, crit=["b64"]),
    "x5c": _header(x5c=["AAAA"]),
    # Claims
    **{f"no {name}": _without(name) for name in ("exp", "iss", "aud", "sub")},
    **{f"{name} is null": _null(name) for name in ("exp", "iss", "aud", "sub")},
    "another issuer": token(iss="https://issuer.example.org"),
    "issuer with a slash": token(iss=ISSUER + "/"),
    "issuers": token(iss=[ISSUER]),
    "another audience": token(aud="other"),
    "audiences of others": token(aud=["other", "nexus2"]),
    "no audiences": token(aud=[]),
    "audiences with a number": token(aud=[AUDIENCE, 1]),
    "audience in an object": token(aud={AUDIENCE: True}),
    "audience's beginning": token(aud=AUDIENCE[:-1]),
    "expired": token(exp=NOW - 60),
    "exp is text": token(exp=str(NOW + 600)),
    "exp is true": token(exp=True),
    "exp is not a number": _expiring("NaN"),
    "exp without end": _expiring("Infinity"),
    "exp past floats": _expiring("1e999"),
    "exp past all": token(exp=10**400),
    "exp of too many digits": _expiring("1" + "0" * 5_000),
    "not before in a while": token(nbf=NOW + 61),
    "nbf is text": token(nbf="now"),
    "issued in the future": token(iat=NOW + 61),
    "iat is text": token(iat=str(NOW)),
    "sub is empty": token(sub=""),
    "sub is a number": token(sub=7),
    "sub is a list": token(sub=["ada"]),
    "sub is half a character": _payload(json.dumps(claims(sub=None))[:-1].encode() + rb', "sub": "\ud800"}'),
    # Names that occur twice
    "alg twice": signed(b'{"alg": "RS256", "kid": "rsa", "alg": "RS256"}', claims(), RSA, "RS256"),
    "alg twice, none first": signed(b'{"alg": "none", "kid": "rsa", "alg": "RS256"}', claims(), RSA, "RS256"),
    "kid twice": signed(b'{"kid": "ec", "alg": "RS256", "kid": "rsa"}', claims(), RSA, "RS256"),
    "alg twice, escaped": signed(rb'{"\u0061lg": "none", "kid": "rsa", "alg": "RS256"}', claims(), RSA, "RS256"),
    "exp twice": _claims_text(f'"exp": {NOW + 900}'),
    "sub twice": _claims_text('"sub": "bob"'),
    "roles twice": _claims_text('"roles": ["admin"]'),
    "a name twice further in": _claims_text('"act": {"sub": "a", "sub": "b"}'),
    # Form
    "empty": b"",
    "dots": b"..",
    "one part": HEAD,
    "two parts": HEAD + b"." + BODY,
    "no signature": HEAD + b"." + BODY + b".",
    "no payload": HEAD + b".." + SIGNATURE,
    "four parts": GOOD + b".",
    "five parts": b".".join([HEAD, BODY, SIGNATURE, BODY, SIGNATURE]),
    "padding": GOOD + b"=",
    "a line after": GOOD + b"\n",
    "a space before": b" " + GOOD,
    "a zero after": GOOD + b"\0",
    "plus and slash": GOOD.replace(b"-", b"+").replace(b"_", b"/"),
    "another ending": _another_ending(GOOD),
    "half a signature": GOOD[: -len(SIGNATURE) // 2],
    "a longer signature": GOOD + b"AAAA",
    "signature of another token": HEAD + b"." + BODY + b"." + token(sub="bob").split(b".")[2],
    "payload of another token": HEAD + b"." + token(roles=["admin"]).split(b".")[1] + b"." + SIGNATURE,
    "beyond ASCII": GOOD.replace(b".", "\N{ONE DOT LEADER}".encode()),
    "Latin-1": b"\xff\xfe" + GOOD,
    "JSON": json.dumps(
        {"payload": BODY.decode(), "protected": HEAD.decode(), "signature": SIGNATURE.decode()}
    ).encode(),
    "a token in a token": signed({"alg": "RS256", "kid": "rsa", "cty": "JWT"}, GOOD, RSA, "RS256"),
    "8 kB and a byte": token(filler="x" * BYTES_MAX),
    "64 kB": token(filler="x" * 64 * 1024),
    "header is a list": signed(b'["alg", "RS256"]', claims(), RSA, "RS256"),
    "header in UTF-16": signed(json.dumps({"alg": "RS256", "kid": "rsa"}).encode("utf-16"), claims(), RSA, "RS256"),
    "header is deep": signed(b'{"alg": "RS256", "x": ' + b"[" * 2_000 + b"]" * 2_000 + b"}", claims(), RSA, "RS256"),
    "payload is a list": _payload(b"[]"),
    "payload is text": _payload(b'"ada"'),
    "payload is no JSON": _payload(b"{'sub': 'ada'}"),
    "payload is no UTF-8": _payload(json.dumps(claims(sub="ä"), ensure_ascii=False).encode("latin-1")),
    "payload in UTF-16": _payload(json.dumps(claims()).encode("utf-16")),
    "payload with a mark before": _payload(b"\xef\xbb\xbf" + json.dumps(claims()).encode()),
    "payload is deep": _payload(json.dumps(claims())[:-1].encode() + b', "x": ' + b"[" * 2_500 + b"]" * 2_500 + b"}"),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_attack_is_refused(jwks: Path, attack: str) -> None:
    async with opened(jwks) as tokens:
        assert not await accepted(tokens, ATTACKS[attack])
        assert await accepted(tokens, GOOD)


@pytest.mark.parametrize("member", ["jku", "x5u"])
async def test_a_token_sends_nobody_anywhere(member: str) -> None:
    async with key_server() as keys, key_server() as canary, opened(keys.url) as tokens:
        canary.content = key_set(OTHER_RSA)
        for key, kid in ((OTHER_RSA, "rsa"), (OTHER_RSA, "evil"), (RSA, "rsa")):
            header = {"alg": "RS256", "kid": kid, member: canary.url}
            assert not await accepted(tokens, signed(header, claims(), key, "RS256"))
        assert (canary.asked, keys.asked) == (0, 1)


async def test_no_attack_causes_a_request() -> None:
    """But for a key's name that is unknown and could be one."""
    async with key_server() as keys, opened(keys.url) as tokens:
        for attack, presented in ATTACKS.items():
            assert not await accepted(tokens, presented)
            if attack == "Ed25519 with the EC key":
                assert keys.asked == 1
        assert keys.asked == 2  # "unknown key", and no more in this minute


async def test_nothing_counts_without_an_issuer() -> None:
    tokens = Tokens(Settings(), now=Clock(NOW))
    await tokens.start()
    assert not await accepted(tokens, GOOD)
    assert tokens.remembered(GOOD) is None
    await tokens.close()


async def test_a_key_of_another_use_checks_nothing(tmp_path: Path) -> None:
    weak: dict[str, Any] = {"kty": "RSA", "e": "AQAB", "n": _b64(b"\xff" * 128).decode(), "kid": "weak"}
    others: list[Any] = [
        weak,
        {**RSA.as_dict(private=False), "kid": "enc", "use": "enc"},
        {**RSA.as_dict(private=False), "kid": "ops", "key_ops": ["encrypt"]},
        {**RSA.as_dict(private=False), "kid": "alg", "alg": "RS384"},
        {"kty": "oct", "kid": "oct", "k": _b64(PEM).decode()},
        X25519.as_dict(private=False),
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "point"},
        {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "curve"},
        {"kty": 7}, {}, [], None, "key",
    ]  # fmt: skip
    (tmp_path / "set").write_bytes(json.dumps({"keys": [*others, RSA.as_dict(private=True)]}).encode())
    async with opened(tmp_path / "set") as tokens:
        assert await accepted(tokens, token())
        for kid in ("enc", "ops", "alg"):
            assert not await accepted(tokens, token(kid=kid))
        assert not await accepted(tokens, _by_hmac(PEM))


async def test_what_is_remembered_ends_with_the_token(jwks: Path) -> None:
    async with opened(jwks) as tokens:
        now = tokens._now
        assert isinstance(now, Clock)
        presented = token(exp=NOW + 10)
        assert await accepted(tokens, presented)
        now.seconds = NOW + 9.9
        assert tokens.remembered(presented) is not None
        now.seconds = NOW + 10
        assert tokens.remembered(presented) is None
        assert await accepted(tokens, presented)  # within the leeway, checked each time
        assert tokens.remembered(presented) is None
        now.seconds = NOW + 71
        assert not await accepted(tokens, presented)


async def test_what_is_remembered_has_a_bound(jwks: Path) -> None:
    async with opened(jwks) as tokens:
        assert await accepted(tokens, GOOD)
        tokens._verdicts.update({bytes([number % 256, number // 256]): next(iter(tokens._verdicts.values()))
                                 for number in range(VERDICTS_MAX - 1)})  # fmt: skip
        assert await accepted(tokens, token(EC, "ES256"))
        assert len(tokens._verdicts) == VERDICTS_MAX
        assert tokens.remembered(GOOD) is None
        for attack in ATTACKS.values():
            await accepted(tokens, attack)
        assert len(tokens._verdicts) == VERDICTS_MAX


async def test_the_metric_says_what_became_of_tokens(jwks: Path) -> None:
    def counted(result: str) -> float:
        return REGISTRY.get_sample_value("nexus_tokens_total", {"result": result}) or 0.0

    cases = {
        "algorithm": "none with a signature", "key": "RS256 with the EC key", "signature": "ES256 of zeros",
        "claims": "no exp", "expired": "expired", "malformed": "crit", "too_long": "64 kB",
    }  # fmt: skip
    async with opened(jwks) as tokens:
        for result, attack in cases.items():
            before = counted(result)
            await accepted(tokens, ATTACKS[attack])
            assert counted(result) == before + 1
        verified, remembered = counted("verified"), counted("remembered")
        assert await accepted(tokens, GOOD)
        assert await accepted(tokens, GOOD)
        assert (counted("verified"), counted("remembered")) == (verified + 1, remembered + 1)


# Chance, and planted bugs


DONORS = (GOOD, token(EC, "ES256"), token(ED, "Ed25519"))


def mutated(rng: random.Random) -> bytes:
    """A good token with something changed: bytes, order of parts, parts of another token; or mere bytes."""
    text = bytearray(rng.choice(DONORS))
    match rng.randrange(7):
        case 0:
            text[rng.randrange(len(text))] ^= 1 << rng.randrange(8)
        case 1:
            text[rng.randrange(len(text))] = rng.choice(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0189-_.")
        case 2:
            del text[rng.randrange(len(text)) :]
        case 3:
            place = rng.randrange(len(text))
            text[place:place] = rng.randbytes(rng.randrange(1, 5))
        case 4:
            parts = bytes(text).split(b".")
            rng.shuffle(parts)
            text = bytearray(b".".join(parts))
        case 5:
            parts, other = bytes(text).split(b"."), rng.choice([*DONORS, *ATTACKS.values()]).split(b".")
            place = rng.randrange(3)
            text = bytearray(b".".join([*parts[:place], other[min(place, len(other) - 1)], *parts[place + 1 :]]))
        case _:
            text = bytearray(rng.randbytes(rng.randrange(400)))
    return bytes(text)


async def wrongly_accepted(tokens: Tokens, rng: random.Random, count: int) -> list[bytes]:
    """The mutations that count, with the good tokens in memory as checked."""
    for presented in DONORS:
        assert await accepted(tokens, presented)
    chosen = [mutated(rng) for _ in range(count)]
    return [presented for presented in chosen if presented not in DONORS and await accepted(tokens, presented)]


async def test_no_mutated_token_counts(jwks: Path, rng: random.Random) -> None:
    async with opened(jwks) as tokens:
        assert await wrongly_accepted(tokens, rng, 3_000) == []


class AnyAlgorithm(Tokens):
    """Takes the algorithm that the token names."""

    def _named_key(self, header: dict[str, Any]) -> tuple[str | None, str]:
        self._registry.allowed = list(JWSRegistry.algorithms)
        return header.get("kid"), str(header.get("alg"))


class PemAsSecret(Tokens):
    """Checks HS256 with the bytes of the public key."""

    def _named_key(self, header: dict[str, Any]) -> tuple[str | None, str]:
        return header.get("kid"), str(header.get("alg"))

    def _signed_payload(self, token: bytes, keys: Any, kid: str | None, algorithm: str) -> bytes:
        content, _, signature = token.rpartition(b".")
        if algorithm == "HS256":
            secret = keys.key(kid, "RS256").as_pem(private=False)
            if _b64(hmac.digest(secret, content, "sha256")) == signature:
                return base64.urlsafe_b64decode(content.partition(b".")[2] + b"==")
        return super()._signed_payload(token, keys, kid, algorithm)


class NoSignature(Tokens):
    """Reads what nobody has signed."""

    def _signed_payload(self, token: bytes, *_: Any) -> bytes:
        try:
            return base64.urlsafe_b64decode(token.split(b".")[1] + b"==")
        except ValueError:
            raise Unauthenticated from None


class NoClaims(Tokens):
    """Checks no claims."""

    def _checked_claims(self, payload: bytes) -> dict[str, Any]:
        return {"exp": NOW, **json.loads(payload)}


class OwnKeys(Tokens):
    """Takes the key that the token brings."""

    def _named_key(self, header: dict[str, Any]) -> tuple[str | None, str]:
        self._own = header.get("jwk")
        return super()._named_key(header)

    def _signed_payload(self, token: bytes, keys: Any, kid: str | None, algorithm: str) -> bytes:
        if self._own:
            keys = KeySet([])
            keys._named[(kid, algorithm)] = RSAKey.import_key(self._own)
        return super()._signed_payload(token, keys, kid, algorithm)


def _lax_json(content: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(content)
    return found


async def convicted(jwks: Path, kind: type[Tokens]) -> set[str]:
    """The attacks that this verifier does not withstand."""
    found = set()
    for attack, presented in ATTACKS.items():
        async with opened(jwks, kind) as tokens:
            try:
                await tokens.principal(presented)
            except Exception:  # noqa: BLE001 - a planted verifier may fail in any way
                continue
            found.add(attack)
    return found


@pytest.mark.parametrize(
    ("kind", "attack"),
    [
        (Tokens, None),
        (AnyAlgorithm, "RS512, not listed"),
        (PemAsSecret, "HS256 with the PEM"),
        (NoSignature, "somebody else's key of that name"),
        (NoClaims, "another audience"),
    ],
)
async def test_a_planted_bug_is_convicted(jwks: Path, kind: type[Tokens], attack: str | None) -> None:
    found = await convicted(jwks, kind)
    assert (attack in found) if attack else found == set()


@pytest.mark.parametrize(
    ("name", "value", "attack"),
    [
        ("FORBIDDEN_IN_HEADER", frozenset(), "its own key"),
        ("FORBIDDEN_IN_HEADER", frozenset(), "our key as its own"),
        ("BYTES_MAX", 1_000_000, "8 kB and a byte"),
        ("parse_object", _lax_json, "exp twice"),
        ("parse_object", _lax_json, "alg twice, none first"),
    ],
)
async def test_a_missing_check_is_convicted(
    jwks: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object, attack: str
) -> None:
    monkeypatch.setattr(tokens_module, name, value)
    assert attack in await convicted(jwks, OwnKeys)


async def test_chance_convicts_a_verifier_without_signatures(jwks: Path, rng: random.Random) -> None:
    async with opened(jwks, NoSignature) as tokens:
        assert await wrongly_accepted(tokens, rng, 300)
