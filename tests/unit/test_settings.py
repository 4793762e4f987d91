"""Settings: what is set where, what is wrong with a value in words, and which variables nothing reads."""

import os
import re
import runpy
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from phonenumbers import SUPPORTED_REGIONS
from pydantic import ValidationError

from nexus_graph.api.graphql.engine.persisted import UnusableManifest
from nexus_graph.app import create_app, server_config
from nexus_graph.cache.families import FamilyCache
from nexus_graph.cli import app as cli
from nexus_graph.commands.doctor import examine, judged_settings
from nexus_graph.config import SCHEMES, SECRETS, Settings
from nexus_graph.devstack.stack import StackUrls
from nexus_graph.graph.driver import open_driver
from nexus_graph.variables import UnusableSettings, names_of, read_settings, unknown

ELSEWHERE = "postgresql://postgres:secret@elsewhere/nexus"


def test_an_empty_variable_names_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_REPLICA_URL", "")
    monkeypatch.setenv("DATABASE_DIRECT_URL", "")
    assert Settings().database_replica_url is None
    assert Settings().database_direct_url is None


def test_a_name_of_no_setting_is_refused() -> None:
    given: dict[str, Any] = {"page_max": 7, "pages_max": 7}
    with pytest.raises(ValidationError, match="pages_max"):
        Settings(**given)
    with pytest.raises(TypeError, match="not a setting: pages_max"):
        Settings().model_copy(update=given)
    assert Settings().model_copy(update={"page_max": 7}).page_max == 7


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
    for listed in ("X-Tenant, X-Build", '["X-Tenant", "X-Build"]'):
        monkeypatch.setenv("NEXUS_CORS_HEADERS", listed)
        assert Settings().cors_headers == ("X-Tenant", "X-Build")
    monkeypatch.setenv("NEXUS_CORS_HEADERS", "X-Tenant: 1")
    with pytest.raises(ValidationError, match="must be names of headers"):
        Settings()


GARBAGE = (
    "abc", "-1", "0", "1.5", "1e400", "nan", "99999999999999999999", "true", "maybe", "[1]", '{"a": 1}', "ZZ",
    "https://app.example", "http://[", "/no/such/file", " ", "\N{PILE OF POO}", "a" * 5_000, "\n", "://",
)  # fmt: skip
WRONG_ADDRESSES = (
    "mysql://x", "postgresql://", "postgresql://h:abc/x", "postgresql://h:99999/x", "postgresql://u:p/w@h/db",
    "redis://h:1:2", "redis://h/x?socket_timeout=never", "redis://h?nonsense=1", "unix://", "rediss://", "bolt://",
    "bolt://h:-1", "neo4j://h:70000", "bolt://h?x=1", "bolt://[::1", "neo4j+s://:7687",
)  # fmt: skip
"""What people set by mistake, for every setting."""


def _set(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> UnusableSettings | Settings:
    with monkeypatch.context() as patched:
        patched.setenv(name, value)
        try:
            return read_settings(os.environ)
        except UnusableSettings as unusable:
            return unusable


@pytest.mark.parametrize("field", Settings.model_fields)
async def test_no_value_of_any_setting_ends_in_a_traceback(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused in one line that names the variable, or everything that is made of settings can be made."""
    name = names_of(field)[0]
    made: list[object] = []
    for value in (*GARBAGE, *WRONG_ADDRESSES) if field in SCHEMES else GARBAGE:
        found = _set(monkeypatch, name, value)
        if isinstance(found, UnusableSettings):
            (fault,) = found.faults
            assert re.match(rf"{name}\b", fault), f"{value[:20]!r}: {fault}"
            assert "\n" not in fault
            assert len(fault) < 400
            continue
        if made and field not in SCHEMES:
            continue
        with suppress(UnusableManifest):
            made.append(server_config(create_app(found), found))
        await open_driver(found).close()
        await FamilyCache(found.model_copy(update={"cache": "both"})).close()


@given(st.sampled_from(sorted(Settings.model_fields)), st.text(max_size=60).filter(lambda text: "\0" not in text))
@example("database_url", "postgresql://ada:pass/word@h/db")
def test_no_text_ends_in_a_traceback_or_shows_a_secret(field: str, text: str) -> None:
    value = f"se/cret{text}" if field in SCHEMES else text
    with pytest.MonkeyPatch.context() as patched:
        found = _set(patched, names_of(field)[0], value.encode("utf-8", "surrogatepass").decode("utf-8", "replace"))
    if isinstance(found, UnusableSettings) and field in SCHEMES:
        assert "se/cret" not in str(found)


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("NEXUS_AUTH", "maybe", "NEXUS_AUTH=maybe must be auto, on or off"),
        ("nexus_auth", "maybe", "nexus_auth=maybe must be auto, on or off"),
        ("NEXUS_FAMILY_LIMIT", "abc", "NEXUS_FAMILY_LIMIT=abc must be a whole number"),
        ("NEXUS_FAMILY_LIMIT_CONTACTS", "1", "NEXUS_FAMILY_LIMIT_CONTACTS=1 must be at least 2"),
        ("NEXUS_READ_CONNECTIONS", "65", "NEXUS_READ_CONNECTIONS=65 must be at most 64"),
        ("NEXUS_CONNECT_TIMEOUT_SECONDS", "0", "NEXUS_CONNECT_TIMEOUT_SECONDS=0 must be more than 0"),
        ("NEXUS_CONNECT_TIMEOUT_SECONDS", "inf", "NEXUS_CONNECT_TIMEOUT_SECONDS=inf must be at most 1000000"),
        ("NEXUS_PGBOUNCER", "perhaps", "NEXUS_PGBOUNCER=perhaps must be true or false"),
        ("DATABASE_URL", "mysql://u:secret@h/db", "DATABASE_URL (h/db) is no postgresql:// address: it begins with mysql://"),
        ("REDIS_URL", "http://:secret@h", "REDIS_URL (h) is no redis:// address: it begins with http://"),
        ("NEXUS_RELAY_METRICS_HOST", "a..b", "NEXUS_RELAY_METRICS_HOST=a..b must be an address or the name of a host"),
        ("NEO4J_URI", "foo", "NEO4J_URI (an address that cannot be read) is no bolt:// address"),
    ],
)  # fmt: skip
def test_a_fault_names_the_variable_its_value_and_what_is_allowed(
    name: str, value: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _set(monkeypatch, name, value)
    assert isinstance(found, UnusableSettings)
    assert found.faults == [fault]


@pytest.mark.parametrize("region", ["ZZ", "GERMANY", "uk", "49", "001", "D"])
def test_a_region_without_telephone_numbers_is_refused(region: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(_set(monkeypatch, "NEXUS_PHONE_REGION", region), UnusableSettings)


def test_every_region_of_the_library_is_taken_in_either_case(monkeypatch: pytest.MonkeyPatch) -> None:
    for region in SUPPORTED_REGIONS:
        found = _set(monkeypatch, "NEXUS_PHONE_REGION", region.lower())
        assert isinstance(found, Settings)
        assert found.phone_region == region


def test_addresses_of_every_kind_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("DATABASE_URL", "postgres://u:p%2Fw@h/db"),
        ("DATABASE_URL", "postgresql://a:5432,b:5433/db?target_session_attrs=primary"),
        ("DATABASE_URL", "postgresql://u@/db?host=/var/run/postgresql"),
        ("DATABASE_URL", "postgresql://[::1]:5432/db"),
        ("REDIS_URL", "rediss://:p@h:6380/0?socket_timeout=1"),
        ("REDIS_URL", "unix:///run/redis.sock?db=1"),
        ("NEO4J_URI", "neo4j+s://x.databases.neo4j.io"),
        ("NEO4J_URI", "neo4j://h:7687?region=eu"),
    ):
        found = _set(monkeypatch, name, value)
        assert isinstance(found, Settings), found.faults


def test_unknown_variables_are_named_with_the_nearest_setting() -> None:
    environment = dict.fromkeys(
        ("NEXUS_FAMILY_LIMITT", "NEXUS_LOGLEVEL", "NEXUS_RATELIMIT", "NEXUS_WEATHER", "NEO4J_USERNAME", "nexus_authh"),
        "1",
    )
    assert {found.name: found.advice for found in unknown(environment)} == {
        "NEXUS_FAMILY_LIMITT": "did you mean NEXUS_FAMILY_LIMIT?",
        "NEXUS_LOGLEVEL": "did you mean NEXUS_LOG_LEVEL?",
        "NEXUS_RATELIMIT": "did you mean NEXUS_RATE_LIMIT?",
        "NEXUS_WEATHER": "unset it",
        "NEO4J_USERNAME": "the setting is NEO4J_USER",
        "nexus_authh": "did you mean NEXUS_AUTH?",
    }


@pytest.mark.parametrize(
    ("name", "value", "finding"),
    [
        ("NEXUS_FAMILY_LIMIT", "abc", "FAIL NEXUS_FAMILY_LIMIT=abc must be a whole number"),
        ("NEXUS_FAMILY_LIMITT", "9", "WARN nothing reads NEXUS_FAMILY_LIMITT"),
        ("NEXUS_PHONE_REGION", "GERMANY", "FAIL NEXUS_PHONE_REGION=GERMANY must be the two-letter ISO code"),
        ("NEXUS_RATE_LIMIT", "1/fortnight", "FAIL NEXUS_RATE_LIMIT=1/fortnight must be an amount and a time"),
        ("NEXUS_CACHE_PROCESS_SECONDS", "31", "WARN NEXUS_CACHE_PROCESS_SECONDS (31) is above NEXUS_CACHE_SECONDS"),
        ("NEXUS_TRUSTED_DOCUMENTS", "/no/such/file", "FAIL NEXUS_TRUSTED_DOCUMENTS: /no/such/file cannot be read"),
        ("NEXUS_TRUSTED_DOCUMENTS_MODE", "enforce", "FAIL NEXUS_TRUSTED_DOCUMENTS_MODE=enforce needs"),
        ("NEXUS_AUTH", "off", "WARN NEXUS_AUTH=off: anyone who can reach"),
        ("NEXUS_PAGE_MAX", "7", "OK in order: NEXUS_PAGE_MAX"),
    ],
)  # fmt: skip
def test_doctor_judges_settings(name: str, value: str, finding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in os.environ:
        if other.startswith("NEXUS_"):
            monkeypatch.delenv(other)
    monkeypatch.setenv(name, value)
    found = list(judged_settings(os.environ))
    assert [f"{each.level} {each.text}" for each in found if f"{each.level} {each.text}".startswith(finding)], found
    assert all(each.next_step for each in found if each.level != "OK")


@pytest.mark.parametrize(("variable", "value"), [("DATABASE_URL", "postgresql://h:x"), ("REDIS_URL", "redis://h:x")])
async def test_doctor_asks_no_server_by_an_address_that_cannot_be_read(
    variable: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "NEO4J_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    found = [finding async for finding in examine(tmp_path, os.environ)]
    assert any(finding.level == "FAIL" and finding.text.startswith(variable) for finding in found)
    assert found[-1].text == "not checked: settings are unusable"


def test_up_names_what_nothing_reads_and_refuses_a_wrong_setting_before_it_starts_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NEXUS_FAMILY_LIMITT", "9")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(SystemExit) as ended:
            cli(["up", "--port", port, "--data-dir", str(tmp_path / "data")])
    assert ended.value.code == 1
    assert "nothing reads NEXUS_FAMILY_LIMITT: did you mean NEXUS_FAMILY_LIMIT?" in capsys.readouterr().err
    monkeypatch.setenv("NEXUS_AUTH", "maybe")
    with pytest.raises(SystemExit) as ended:
        cli(["up", "--data-dir", str(tmp_path / "other")])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "nexus-graph: NEXUS_AUTH=maybe must be auto, on or off\n"
    assert not (tmp_path / "other").exists()


def test_every_name_in_the_project_is_known(project: Path) -> None:
    """Those that documents, scripts, tests and container files give their readers."""
    files = [
        *(project / folder for folder in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "docker-compose.yml")),
        *(project / name for name in (".env.example", "CHANGELOG.md", "deploy/pgbouncer/login.sql")),
        *(project / "docs").rglob("*.md"),
        *(file for folder in ("nexus_graph", "scripts", "examples") for file in (project / folder).rglob("*.py")),
    ]
    names = {name for file in files for name in re.findall(r"\bNEXUS_[A-Z0-9_]*[A-Z0-9]\b", file.read_text("utf-8"))}
    assert len(names) > 10
    assert unknown(dict.fromkeys(names, "1")) == []


def test_every_setting_is_read_by_something(project: Path) -> None:
    """By the package, as `settings.x`; by a method of the settings, as `self.x`; or as the file of a secret."""
    code = "".join(file.read_text("utf-8") for file in (project / "nexus_graph").rglob("*.py"))
    of_secrets = {f"{name}_file" for name in SECRETS}
    unread = {field for field in Settings.model_fields if not re.search(rf"(settings|self)\.{field}\b", code)}
    assert unread - of_secrets == set()


def test_every_setting_is_documented_and_the_page_is_in_step(project: Path) -> None:
    script = runpy.run_path(str(project / "scripts" / "settings_page.py"))
    meanings = script["meanings"]((project / "nexus_graph" / "config.py").read_text("utf-8"))
    assert meanings.keys() == Settings.model_fields.keys()
    assert [field for field, (_, meaning) in meanings.items() if not meaning] == []
    page = (project / "docs" / "settings.md").read_text("utf-8")
    assert page == script["page"](), "make settings"
    listed = re.findall(r"^\| `([A-Z0-9_]+)` \|", page, re.MULTILINE)
    assert listed == [names_of(field)[0] for field in Settings.model_fields]


def test_a_setting_without_a_meaning_is_found(project: Path) -> None:
    meanings = runpy.run_path(str(project / "scripts" / "settings_page.py"))["meanings"]
    fields = ("one: int = 1", '"""Its meaning."""', "two: int = 2", "three: int = 3", '"""Again."""')
    source = "class Settings:\n" + "".join(f"    {line}\n" for line in fields)
    assert {field: meaning for field, (_, meaning) in meanings(source).items()} == {
        "one": "Its meaning.",
        "two": "",
        "three": "Again.",
    }
