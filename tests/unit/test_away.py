"""What an error of PostgreSQL means: the values' fault, or the server's trouble; and what a message may say of it."""

import socket
import ssl

import asyncpg
import pytest

from nexus_graph.addresses import address, where
from nexus_graph.config import Settings
from nexus_graph.store.database import is_busy, is_datas_fault, is_lost, is_servers_trouble, reason

DATA_CLASSES = {"0A", "21", "22", "23", "27", "44", "54", "P0"}
KNOWN = {
    str(sqlstate)
    for kind in vars(asyncpg.exceptions).values()
    if (sqlstate := getattr(kind, "sqlstate", None)) is not None
}


def _error(sqlstate: str) -> asyncpg.PostgresError:
    error: asyncpg.PostgresError = asyncpg.PostgresError.new({"C": sqlstate, "M": "ada@example.com is at fault"})
    return error


@pytest.mark.parametrize("sqlstate", sorted(KNOWN))
def test_every_sqlstate_is_either_the_datas_or_the_servers(sqlstate: str) -> None:
    error = _error(sqlstate)
    assert is_datas_fault(error) == (sqlstate[:2] in DATA_CLASSES)
    assert is_servers_trouble(error) != is_datas_fault(error)
    assert "ada" not in reason(error)
    assert sqlstate in reason(error)


def test_an_sqlstate_of_tomorrow_is_the_servers() -> None:
    assert is_servers_trouble(_error("ZZ999"))


@pytest.mark.parametrize(
    ("sqlstate", "told"),
    [
        ("25006", "is read-only (25006)"),
        ("28P01", "refuses the login (28P01)"),
        ("28000", "refuses the login (28000)"),
        ("3D000", "has no such database (3D000)"),
        ("53300", "has no connection left (53300)"),
        ("53100", "has run out of connections, memory or disk (53100)"),
        ("57P03", "is starting or stopping (57P03)"),
        ("57P01", "was told to stop (57P01)"),
        ("58030", "cannot read or write its files (58030)"),
        ("42501", "denies us a right that we need (42501)"),
        ("XX001", "is not itself (XX001)"),
    ],
)
def test_the_reason_says_what_the_matter_is(sqlstate: str, told: str) -> None:
    assert reason(_error(sqlstate)) == told


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TimeoutError(), "does not answer in time"),
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 9)"), "does not answer (Connection refused)"),
        (socket.gaierror(-2, "Name or service not known"), "does not answer (Name or service not known)"),
        (ssl.SSLCertVerificationError(1, "certificate of ada"), "does not answer (SSLCertVerificationError)"),
        (OSError("Multiple exceptions: …"), "does not answer (OSError)"),
        (asyncpg.ConnectionDoesNotExistError("gone"), "broke the connection (08003)"),
        (asyncpg.TargetServerAttributeNotMatched("…"), "is a standby, which takes no writes"),
    ],
)
def test_so_it_does_of_an_error_without_a_server(error: Exception, told: str) -> None:
    assert is_servers_trouble(error)
    assert reason(error) == told


def test_silence_is_no_lost_connection() -> None:
    """Whoever asked has waited long enough: the statement is not sent again."""
    assert is_servers_trouble(TimeoutError())
    assert not is_lost(TimeoutError())
    assert is_lost(ConnectionResetError())
    assert is_lost(_error("57P01"))


def test_a_connection_to_a_read_only_server_is_given_up() -> None:
    assert is_lost(_error("25006"))


@pytest.mark.parametrize(("sqlstate", "busy"), [("55P03", True), ("40P01", True), ("57014", True), ("57P01", False)])
def test_a_lock_that_is_not_to_be_had_says_nothing_of_the_server(sqlstate: str, busy: bool) -> None:  # noqa: FBT001
    assert is_busy(_error(sqlstate)) == busy


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://ada:secret@db.example:5432/nexus?sslmode=require", "db.example:5432/nexus"),
        ("postgresql://ada:se@cret@db.example/nexus", "db.example/nexus"),
        ("postgresql://one.example:1,two.example:2/nexus", "one.example:1,two.example:2/nexus"),
        ("postgresql://ada:secret@[::1]:5432/nexus", "[::1]:5432/nexus"),
        ("postgresql:///nexus?host=/var/run/postgresql&password=secret", "/var/run/postgresql/nexus"),
        ("redis://:secret@127.0.0.1:6379/0", "127.0.0.1:6379/0"),
        ("bolt://127.0.0.1:7687", "127.0.0.1:7687"),
        ("postgresql://ada:sec#ret@db.example/nexus", "an address that cannot be read"),
        ("postgresql://ada:sec/ret@db.example/nexus", "an address that cannot be read"),
        ("postgresql://ada:sec?ret@db.example/nexus", "an address that cannot be read"),
        ("redis://:secret", "an address that cannot be read"),
        ("secret", "an address that cannot be read"),
        ("", "an address that cannot be read"),
        ("postgresql://[secret", "an address that cannot be read"),
    ],
)
def test_an_address_holds_no_password(url: str, told: str) -> None:
    assert address(url) == told


def test_a_default_that_stands_in_for_a_variable_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert where(Settings(), "database_url") == "127.0.0.1:5432/nexus (DATABASE_URL is not set; this is the default)"
    monkeypatch.setenv("DATABASE_URL", "postgresql://ada:secret@db.example/nexus")
    assert where(Settings(), "database_url") == "db.example/nexus (DATABASE_URL)"
