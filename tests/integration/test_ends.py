"""How commands end: every command, beside every server that is away, refuses the login, takes no writes or has an
address that nobody can read. No traceback; one line that names the server; and what must fail fails.

The commands are those that the command line itself lists, so a new one is tried as well.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import typer

from nexus_graph.cli import app
from nexus_graph.config import Settings

NOWHERE = "127.0.0.1:9"  # the discard port: nothing listens there
WRONG = "not-the-pass-word"
PATIENCE_SECONDS = 60

STARTS_ITS_OWN = {"up"}
"""These take no server from the environment. They are not tried here."""

OF_A_STACK = {"status"}
"""These tell of what `up` started; here that is nothing."""

ASKS_NO_SERVER = {"schema export", "dev-token"}
LIVES_ON = {"serve", "relay"}
"""These go on until they are told to stop."""

WAITS = {"relay"}
"""These wait for a server that is away."""

ASKS_GRAPH = {"verify", "repair", "rebuild-graph", "demo", "doctor"}
ASKS_REDIS = {"cache warm", "doctor"}
READS_ONLY = {
    "verify", "repair", "rebuild-graph", "cache warm", "doctor", "renormalize",
    "keys list", "audit verify", "audit export",
} | LIVES_ON  # fmt: skip
"""The record's part in these is to be read; `renormalize` finds nothing here that it would have to change."""

NEEDS_A_RELAY = {"demo"}
"""These end without one, and none runs here."""

NEEDS_A_KEY = {"keys revoke", "keys rotate"}
"""These change an API key, and none is here."""

ANSWERS_ON_STDOUT = {"doctor"} | OF_A_STACK
"""What is wrong with the servers is what these print."""

JUDGES_ALL = "doctor"
"""This one is tried alone, after the others: it judges the graph, and a rebuild empties the graph for a moment."""

STOP_AT = ('"event": "serving"', '"event": "relay_active"', '"event": "relay_failed"')

ENVIRONMENT = {
    "NEXUS_CACHE": "both",
    "NEXUS_LOAD_TRIES_MAX": "2",
}
WAITS_FOR_NOTHING = (
    "nexus_graph.bulk.load.RETRY_BASE_SECONDS",
    "nexus_graph.demo.tour.GRAPH_WAIT_SECONDS",
    "nexus_graph.graph.verify.SETTLE_SECONDS",
)
"""The times, in seconds, that commands would wait for servers that stay away here."""


def _commands(group: Any, *above: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, *above, name)
        else:
            yield " ".join((*above, name)), command


COMMANDS = dict(_commands(typer.main.get_command(app)))


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def said(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("nexus-graph: ")]


@dataclass(frozen=True)
class Fault:
    """One server in trouble. `variable` names it; `place` is the address that is to be told, `words` what is said."""

    variable: str
    url: str
    place: str
    words: str

    def must_end(self, name: str) -> bool | None:
        """Must the command fail of it? None: it may, as it has other reasons, or opens more than it asks."""
        if name in ASKS_NO_SERVER:
            return False
        unreadable = self.words.startswith("no ")
        if self.variable == "DATABASE_URL":
            return unreadable or not ((self.words == "read-only" and name in READS_ONLY) or name in WAITS)
        if name in NEEDS_A_RELAY | NEEDS_A_KEY or unreadable:
            return None
        return name in (ASKS_GRAPH if self.variable == "NEO4J_URI" else ASKS_REDIS)


def _faults(settings: Settings) -> dict[str, Fault]:
    record = urlsplit(settings.database_url.get_secret_value())
    redis = urlsplit(settings.redis_url.get_secret_value())
    graph = settings.neo4j_uri.removeprefix("bolt://")
    place = f"{record.hostname}:{record.port}"
    base = f"postgresql://{record.username}:{record.password}"
    return {
        "record away": Fault("DATABASE_URL", f"{base}@{NOWHERE}/nexus", NOWHERE, "does not answer"),
        "record refuses the login": Fault(
            "DATABASE_URL", f"postgresql://{record.username}:{WRONG}@{place}{record.path}", place, "refuses the login"
        ),
        "record read-only": Fault("DATABASE_URL", record.geturl(), place, "read-only"),
        "record's address": Fault("DATABASE_URL", f"mysql://ada:{WRONG}@{NOWHERE}/nexus", NOWHERE, "no postgresql://"),
        "graph away": Fault("NEO4J_URI", f"bolt://{NOWHERE}", NOWHERE, "does not answer"),
        "graph refuses the login": Fault("NEO4J_URI", settings.neo4j_uri, graph, "refuses the login"),
        "graph's address": Fault("NEO4J_URI", f"http://{NOWHERE}", NOWHERE, "no bolt://"),
        "redis away": Fault("REDIS_URL", f"redis://{NOWHERE}/0", NOWHERE, "does not answer"),
        "redis refuses the login": Fault(
            "REDIS_URL",
            f"redis://:{WRONG}@{redis.hostname}:{redis.port}/0",
            f"{redis.hostname}:{redis.port}",
            "refuses",
        ),
        "redis's address": Fault("REDIS_URL", f"http://:{WRONG}@{NOWHERE}", NOWHERE, "no redis://"),
    }


KINDS = (
    "record away", "record refuses the login", "record read-only", "record's address",
    "graph away", "graph refuses the login", "graph's address",
    "redis away", "redis refuses the login", "redis's address",
)  # fmt: skip


@pytest.fixture(scope="module")
def starter() -> multiprocessing.context.ForkServerContext:
    """Starts commands as processes that have imported what they need: this module as well, and all that it imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["nexus_graph.app", "nexus_graph.relay", "nexus_graph.demo", "nexus_graph.commands.files",
         "nexus_graph.commands.copies", "nexus_graph.commands.doctor", "nexus_graph.commands.renormalize",
         "nexus_graph.__main__", "uvloop", __name__]
    )  # fmt: skip
    return context


@pytest.fixture
async def read_only(settings: Settings) -> AsyncIterator[None]:
    """The record takes no writes in sessions that begin from now on."""
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    yield
    await connection.close()


@pytest.fixture
def well(settings: Settings) -> dict[str, str]:
    """The environment in which every server is there."""
    return {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "NEO4J_URI": settings.neo4j_uri,
        "NEO4J_USER": settings.neo4j_user,
        "NEO4J_PASSWORD": settings.neo4j_password.get_secret_value(),
        **ENVIRONMENT,
    }


def _ran(starter: multiprocessing.context.ForkServerContext, argv: list[str], environment: Mapping[str, str]) -> Ended:
    """The command as a process of its own, told to stop where it would go on."""
    (out, out_end), (err, err_end) = starter.Pipe(duplex=False), starter.Pipe(duplex=False)
    process = starter.Process(target=_run, args=(argv, dict(environment), out_end, err_end))
    process.start()
    out_end.close()
    err_end.close()
    assert process.pid is not None
    with os.fdopen(os.dup(err.fileno())) as lines, out, err:
        said = ""
        for line in lines:
            said += line
            if any(mark in line for mark in STOP_AT):
                os.kill(process.pid, signal.SIGTERM)
        with os.fdopen(os.dup(out.fileno())) as answers:
            answer = answers.read()
    process.join(PATIENCE_SECONDS)
    assert process.exitcode is not None, f"{argv} does not end"
    return Ended(process.exitcode, answer, said)


def _run(argv: list[str], environment: dict[str, str], out: Connection, err: Connection) -> None:
    """In the process of the command."""
    from nexus_graph.__main__ import main

    for name in list(os.environ):
        if name.startswith(("NEXUS_", "DATABASE_", "REDIS_", "NEO4J_")):
            del os.environ[name]
    os.environ.update(environment)
    for name in WAITS_FOR_NOTHING:
        pytest.MonkeyPatch().setattr(name, 0.0)
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    out.close()
    err.close()
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    sys.argv = ["nexus-graph", *argv]
    main()


GIVEN = {"key_id": "0123456789ab", "name": "shop", "role": "service", "months": "1"}
"""What commands must be given, besides a file."""


def _argv(name: str, command: Any, file: Path) -> list[str]:
    argv = name.split()
    for parameter in command.params:
        given = GIVEN.get(parameter.name, str(file))
        if parameter.param_type_name == "argument" and parameter.required:
            argv.append(given)
        elif parameter.required:
            argv += [parameter.opts[0], given]
        elif parameter.name == "data_dir" and name in ASKS_NO_SERVER:
            argv += ["--data-dir", str(file.parent)]
        elif parameter.name == "port":
            argv += ["--port", "0"]
        elif parameter.name == "check":
            argv.append("--check")
    return argv


@pytest.mark.parametrize("kind", KINDS)
def test_no_command_ends_in_a_traceback(  # noqa: PLR0917 - fixtures
    kind: str,
    settings: Settings,
    well: dict[str, str],
    starter: multiprocessing.context.ForkServerContext,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    fault = _faults(settings)[kind]
    if kind == "record read-only":
        request.getfixturevalue("read_only")
    environment = {**well, fault.variable: fault.url}
    if kind == "graph refuses the login":
        # Of another user: Neo4j locks one out whose password was wrong three times.
        environment |= {"NEO4J_USER": "nobody", "NEO4J_PASSWORD": WRONG}
    file = tmp_path / "rows.csv"
    file.write_text("email,phoneNumber\nada@example.com,+14155550001\n")
    names = [name for name in COMMANDS if name not in STARTS_ITS_OWN]
    if fault.variable == "REDIS_URL":
        names = [name for name in names if name not in NEEDS_A_RELAY]  # they ask what `load` asks, and take longest
    names.sort(key=JUDGES_ALL.__eq__)
    with ThreadPoolExecutor(4) as trying:
        ends = list(trying.map(lambda name: _ran(starter, _argv(name, COMMANDS[name], file), environment), names[:-1]))
    ends.append(_ran(starter, _argv(JUDGES_ALL, COMMANDS[JUDGES_ALL], file), environment))
    wrong = [
        f"{name}: {complaint}\n{ended.err}{ended.out}"
        for name, ended in zip(names, ends, strict=True)
        for complaint in _complaints(name, ended, fault)
    ]
    assert not wrong, "\n".join(wrong)


def _complaints(name: str, ended: Ended, fault: Fault) -> Iterator[str]:
    told = ended.out + ended.err
    if "Traceback" in told:
        yield "a traceback"
    if WRONG in told:
        yield "a password"
    must_end = fault.must_end(name)
    if name in OF_A_STACK:
        return
    if must_end is not None and (ended.code != 0) != must_end:
        yield f"exit code {ended.code}"
    said = ended.said
    if name in WAITS and ended.code == 0 and fault.variable == "DATABASE_URL" and fault.words != "read-only":
        said = [line for line in ended.err.splitlines() if "relay_failed" in line][:1]
    elif ended.code == 0 or name in ANSWERS_ON_STDOUT:
        return
    if len(said) != 1:
        yield f"{len(said)} lines that say why"
    elif must_end and not all(word in said[0] for word in (fault.variable, fault.place, fault.words)):
        yield "a line that does not name the variable, the address and what the matter is"
