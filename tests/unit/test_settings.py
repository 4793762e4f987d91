"""Settings of servers: what is set where, and what an embedded stack leaves unset."""

import pytest
from pydantic import ValidationError

from nexus_graph.config import Settings
from nexus_graph.devstack.stack import StackUrls

ELSEWHERE = "postgresql://postgres:secret@elsewhere/nexus"


def test_an_empty_variable_names_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_REPLICA_URL", "")
    monkeypatch.setenv("DATABASE_DIRECT_URL", "")
    assert Settings().database_replica_url is None
    assert Settings().database_direct_url is None


def test_pgbouncer_needs_a_way_past_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_PGBOUNCER", "true")
    monkeypatch.setenv("DATABASE_URL", ELSEWHERE)
    with pytest.raises(ValidationError, match="DATABASE_DIRECT_URL") as refused:
        Settings()
    assert "secret" not in str(refused.value)
    monkeypatch.setenv("DATABASE_DIRECT_URL", ELSEWHERE)
    assert Settings().pgbouncer


def test_a_stack_here_asks_nobody_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_REPLICA_URL", "DATABASE_DIRECT_URL"):
        monkeypatch.setenv(name, ELSEWHERE)
    monkeypatch.setenv("NEXUS_PGBOUNCER", "true")
    here = Settings(database_replica_url=None, database_direct_url=None, pgbouncer=False)
    assert (here.database_replica_url, here.database_direct_url, here.pgbouncer) == (None, None, False)
    for name, value in StackUrls("", "postgresql://here/nexus", "", "", "", "", "").environment().items():
        monkeypatch.setenv(name, value)
    here = Settings()
    assert (here.database_replica_url, here.database_direct_url, here.pgbouncer) == (None, None, False)


@pytest.mark.parametrize(
    ("given", "origins"),
    [
        ("", ()),
        ("https://app.example", ("https://app.example",)),
        ("https://app.example,https://b.example", ("https://app.example", "https://b.example")),
        (" https://App.Example/ , 'http://localhost:3000'\n", ("https://app.example", "http://localhost:3000")),
        ("https://app.example:443 http://[::1]:80", ("https://app.example", "http://[::1]")),
        ('["https://app.example", "http://b.example:8080"]', ("https://app.example", "http://b.example:8080")),
        ('"https://app.example"', ("https://app.example",)),
        ("*", ("*",)),
        ('["*"]', ("*",)),
        ("null,capacitor://localhost", ("null", "capacitor://localhost")),
    ],
)
def test_origins_are_a_plain_list(monkeypatch: pytest.MonkeyPatch, given: str, origins: tuple[str, ...]) -> None:
    monkeypatch.setenv("NEXUS_CORS_ORIGINS", given)
    assert Settings().cors_origins == origins


@pytest.mark.parametrize(
    "given",
    [
        "app.example",
        "https://",
        "https://app.example/path",
        "https://*.example",
        "[1]",
        '["https://a.example"',
        "https://a:b",
        "https://bücher.example",
        '{"a": 1}',
        "https://user@app.example",
        "localhost:3000",
    ],
)
def test_what_is_no_origin_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("NEXUS_CORS_ORIGINS", given)
    with pytest.raises(ValidationError, match="cors_origins"):
        Settings()


def test_headers_of_pages_are_a_plain_list(monkeypatch: pytest.MonkeyPatch) -> None:
    for given in ("X-Tenant, X-Build", '["X-Tenant", "X-Build"]'):
        monkeypatch.setenv("NEXUS_CORS_HEADERS", given)
        assert Settings().cors_headers == ("X-Tenant", "X-Build")
    monkeypatch.setenv("NEXUS_CORS_HEADERS", "X-Tenant: 1")
    with pytest.raises(ValidationError, match="must be names of headers"):
        Settings()
