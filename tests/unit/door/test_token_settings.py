"""The settings of tokens: each is judged at start, in words."""

import os

import pytest

from nexus_graph.config import Settings
from nexus_graph.variables import UnusableSettings, read_settings

GOOD = {
    "NEXUS_JWT_ISSUER": "https://issuer.example",
    "NEXUS_JWT_AUDIENCE": "nexus",
    "NEXUS_JWT_JWKS": "https://issuer.example/keys",
}


def read(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    with monkeypatch.context() as patched:
        for name in GOOD:
            patched.delenv(name, raising=False)
        for name, value in variables.items():
            patched.setenv(name, value)
        return read_settings(os.environ)


def test_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch)
    assert (settings.jwt_issuer, settings.jwt_audience, settings.jwt_jwks) == (None, None, None)
    assert settings.jwt_algorithms == ("RS256", "ES256", "Ed25519")
    assert settings.jwt_roles_claim == "roles"


@pytest.mark.parametrize(
    "missing", [[name] for name in GOOD] + [[name for name in GOOD if name != one] for one in GOOD]
)
def test_issuer_audience_and_keys_go_together(monkeypatch: pytest.MonkeyPatch, missing: list[str]) -> None:
    given = {name: value for name, value in GOOD.items() if name not in missing}
    with pytest.raises(UnusableSettings) as unusable:
        read(monkeypatch, **given)
    assert unusable.value.faults == [f"{next(iter(given))} needs {' and '.join(missing)} as well"]


@pytest.mark.parametrize(
    "place",
    [
        "https://issuer.example/keys", "https://issuer.example:8443/keys?a=b", "https://8.8.8.8/keys",
        "http://127.0.0.1:9/keys", "http://[::1]/keys", "http://localhost/keys", "https://localhost/keys",
        "/run/secrets/jwks.json", "jwks.json", "~/jwks.json",
    ],
)  # fmt: skip
def test_a_place_of_keys_is_taken(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    assert read(monkeypatch, **{**GOOD, "NEXUS_JWT_JWKS": place}).jwt_jwks == place


@pytest.mark.parametrize(
    ("place", "fault"),
    [
        ("http://issuer.example/keys", "https:// address: http:// is for a loopback"),
        ("http://10.0.0.1/keys", "https:// address: http:// is for a loopback"),
        ("https://10.0.0.1/keys", "must not lead to an address of a private network"),
        ("https://169.254.169.254/latest", "must not lead to an address of a private network"),
        ("https://[::ffff:10.0.0.1]/keys", "must not lead to an address of a private network"),
        ("https://ada:secret@issuer.example/keys", "must be an address without user, password and fragment"),
        ("https://ada@issuer.example/keys", "must be an address without user, password and fragment"),
        ("https://issuer.example/keys#a", "must be an address without user, password and fragment"),
        ("ftp://issuer.example/keys", "must be the path of a file, or an https:// address"),
        ("file:///keys", "must be the path of a file, or an https:// address"),
        ("https:///keys", "must be the path of a file, or an https:// address"),
        ("https://issuer.example:x/keys", "must be the path of a file, or an https:// address"),
        ("https://issuer.example:0/keys", "must be the path of a file, or an https:// address"),
        ("https://issuer.example/a b", "must be the path of a file, or an https:// address"),
        ("https://issuer.example/a\r\nX: y", "must be the path of a file, or an https:// address"),
        ("https://[::1/keys", "must be the path of a file, or an https:// address"),
        (" ", "must be the path of a file, or an https:// address"),
    ],
)
def test_another_place_of_keys_is_refused(monkeypatch: pytest.MonkeyPatch, place: str, fault: str) -> None:
    with pytest.raises(UnusableSettings) as unusable:
        read(monkeypatch, **{**GOOD, "NEXUS_JWT_JWKS": place})
    (told,) = unusable.value.faults
    assert told.startswith("NEXUS_JWT_JWKS")
    assert fault in told
    assert "secret" not in told


@pytest.mark.parametrize("algorithms", ["none", "HS256", "RS256,HS256", "RS256 none", "rs256", ",", "ECDH-ES", "Ed448"])
def test_only_signatures_with_a_public_key_are_taken(monkeypatch: pytest.MonkeyPatch, algorithms: str) -> None:
    with pytest.raises(UnusableSettings, match=r"NEXUS_JWT_ALGORITHMS.* must be names of signatures with a public key"):
        read(monkeypatch, NEXUS_JWT_ALGORITHMS=algorithms)


def test_eddsa_is_an_older_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, NEXUS_JWT_ALGORITHMS="EdDSA, RS256,Ed25519").jwt_algorithms == ("Ed25519", "RS256")


@pytest.mark.parametrize("name", ["NEXUS_JWT_ISSUER", "NEXUS_JWT_AUDIENCE", "NEXUS_JWT_ROLES_CLAIM"])
@pytest.mark.parametrize("value", [" ", " a", "a\n", "a" * 1_025])
def test_a_claim_is_plain_text(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(UnusableSettings, match=f"^{name}.* must be 1 to 1024 printable characters"):
        read(monkeypatch, **{**GOOD, name: value})


@pytest.mark.parametrize("seconds", ["0", "59", "-1", "nan", "1e9", "soon"])
def test_the_age_of_keys_has_bounds(monkeypatch: pytest.MonkeyPatch, seconds: str) -> None:
    with pytest.raises(UnusableSettings, match="NEXUS_JWT_JWKS_MAX_AGE_SECONDS"):
        read(monkeypatch, NEXUS_JWT_JWKS_MAX_AGE_SECONDS=seconds)
