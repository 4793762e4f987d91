"""The stack: three servers and the processes of nexus_graph, started together, watched over, and stopped in order."""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.table import Table

from nexus_graph.config import METRICS_FOLDER, SECRETS, is_loopback
from nexus_graph.devstack import archive, jars, probes
from nexus_graph.devstack.datadir import DataDirectory, Passwords
from nexus_graph.devstack.neo4j import USER as NEO4J_USER
from nexus_graph.devstack.neo4j import Neo4j
from nexus_graph.devstack.ports import LOOPBACK, PortLeases
from nexus_graph.devstack.postgres import Postgres
from nexus_graph.devstack.process import (
    START_MAX_SECONDS,
    ChildProcess,
    Command,
    StackError,
    describe_exit,
    in_thread,
)
from nexus_graph.devstack.valkey import Valkey
from nexus_graph.door import dev_key

RESTART_DELAY_BASE_SECONDS = 0.5
RESTART_DELAY_MAX_SECONDS = 30.0
RESTARTS_MAX = 10  # in a row; STABLE_AFTER_SECONDS of running reset the count
FAILURES_ON_A_FULL_DISK = 3  # the count's limit on a full disk, so that restarts go on every few seconds
STABLE_AFTER_SECONDS = 60.0
API_PORT = 8000


@dataclass(frozen=True)
class StackOptions:
    """The options of `nexus-graph up`. A port of 0 means any free one."""

    host: str = LOOPBACK
    port: int | None = None
    """Port of the API; None: the customary port, or a free one if that is taken."""
    data_dir: Path = Path(".nexus")
    servers_only: bool = False
    postgres_settings: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    """More environment for the processes of nexus_graph."""
    browser_port: int = 7474
    bolt_port: int = 7687
    quiet: bool = False


@dataclass(frozen=True)
class StackUrls:
    """The addresses of the stack. `api` is empty when only the servers run. Holds passwords: do not log."""

    api: str
    database_url: str
    redis_url: str
    neo4j_uri: str
    neo4j_user: str
    neo4j_password: str
    neo4j_browser: str

    def environment(self) -> dict[str, str]:
        """The variables by which the commands of nexus_graph find the servers."""
        return {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "NEO4J_URI": self.neo4j_uri,
            "NEO4J_USER": self.neo4j_user,
            "NEO4J_PASSWORD": self.neo4j_password,
            # The stack has none of these, so the shell's values must not reach its processes.
            "DATABASE_REPLICA_URL": "",
            "DATABASE_DIRECT_URL": "",
            **dict.fromkeys(SECRETS.values(), ""),
            "NEXUS_PGBOUNCER": "false",
        }


@dataclass(frozen=True)
class AppProcess:
    """A process of the application, started once the servers answer."""

    name: str
    argv: Sequence[str]
    health_path: str | None = None
    """Requested at the API's address until the status is 200; None: a running process is enough."""
    runs_once: bool = False
    """The process must end with exit code 0 before the next one starts."""


AppProcesses = Callable[[StackOptions, int], Sequence[AppProcess]]


def nexus_processes(options: StackOptions, port: int) -> Sequence[AppProcess]:
    """Migrations, then the relay, then the API."""
    nexus_graph = (sys.executable, "-m", "nexus_graph")
    return [
        AppProcess("migrate", (*nexus_graph, "migrate"), runs_once=True),
        AppProcess("relay", (*nexus_graph, "relay")),
        AppProcess("api", (*nexus_graph, "serve", "--host", options.host, "--port", str(port)), health_path="/health"),
    ]


class Terminal(Console):
    """The operator's terminal. After a broken pipe the stack goes on (rich would end the program)."""

    def on_broken_pipe(self) -> None:
        """Drop this line and all that follow."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # else Python fails on the broken pipe again at exit
        os.close(nowhere)


class Stack:
    """An async context manager: inside, all processes answer; after leaving, none runs.

    Raises StackError on entry if a process cannot start, after stopping the others. Use it in the main thread. A
    process that dies is started again while `supervise` runs, and otherwise stays down until its `start`.
    """

    def __init__(self, options: StackOptions, *, app: AppProcesses = nexus_processes) -> None:
        self.options = options
        self.console = Terminal(quiet=options.quiet, highlight=False, soft_wrap=True)
        self._app = app
        self._data = DataDirectory(options.data_dir)
        self._leases = PortLeases()
        self._processes: dict[str, ChildProcess] = {}
        self._urls: StackUrls | None = None
        self._dev_tokens: dict[str, str] = {}
        self._interrupted = threading.Event()
        self._stopped = asyncio.Event()

    @property
    def urls(self) -> StackUrls:
        """The addresses, once the stack has started."""
        if self._urls is None:
            raise StackError("the stack has not started")
        return self._urls

    def process(self, name: str) -> ChildProcess:
        """One of postgres, valkey, neo4j, relay, api. Raises KeyError when this stack has no such process."""
        return self._processes[name]

    @property
    def processes(self) -> Sequence[ChildProcess]:
        """The processes, in the order of their start."""
        return tuple(self._processes.values())

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def supervise(self) -> None:
        """Restart processes that die, until the stack stops. Raises StackError for a process that keeps dying."""
        keepers = [asyncio.create_task(self._keep(process), name=process.name) for process in self.processes]
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            done, _ = await asyncio.wait([*keepers, stopped], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*keepers, stopped):
                task.cancel()
            await asyncio.gather(*keepers, stopped, return_exceptions=True)

    async def stop(self) -> None:
        """Stop everything in order: API, relay, Neo4j, Valkey, PostgreSQL. Does nothing the second time."""
        self._interrupted.set()
        self._stopped.set()
        if not self._data.held:
            return
        self._data.remove_status()
        problems = []
        for process in self.processes:
            process.wanted = False
        for process in reversed(self.processes):
            if process.running:
                self.say(f"stopping {process.name}")
            try:
                await process.stop()
            except StackError as error:
                problems.append(str(error))
        self._leases.release()
        self._data.release()
        if problems:
            raise StackError("\n".join(problems))

    def force(self) -> None:
        """End everything at once, in the same order, without waiting; `stop` still collects the exit codes."""
        self._interrupted.set()
        for process in reversed(self.processes):
            process.force()

    def say(self, text: str) -> None:
        """Print a line for the operator."""
        with suppress(OSError):  # a lost terminal must not keep us from stopping the processes
            self.console.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim] ", end="")
            self.console.print(text, markup=False)

    async def _start(self) -> None:
        self._data.acquire()
        self._data.remove_status()
        await in_thread(self._data.end_strays, self.say)
        passwords = self._data.passwords()
        ports = self._choose_ports()
        installation = await self._installation()
        await self._start_servers(passwords, installation, ports)
        if not self.options.servers_only:
            await self._start_app(ports["API"])
        self._data.write_status(asdict(self.urls))

    async def _installation(self) -> Path:
        console = None if self.options.quiet else self.console
        flag = self._interrupted
        return await in_thread(jars.install, self.say, console, flag, interrupt=flag.set)

    def _choose_ports(self) -> dict[str, int]:
        options = self.options
        wishes = {
            "Neo4j Browser": (options.browser_port, LOOPBACK),
            "Bolt": (options.bolt_port, LOOPBACK),
            "PostgreSQL": (0, LOOPBACK),
            "Valkey": (0, LOOPBACK),
        }
        if not options.servers_only:
            wishes = {"API": (API_PORT if options.port is None else options.port, options.host), **wishes}
        ports = {}
        for name, (preferred, host) in wishes.items():
            ports[name] = self._leases.choose(preferred, host=host)
            if not preferred or ports[name] == preferred:
                continue
            if name == "API" and options.port is not None:
                raise StackError(
                    f"port {preferred} of {host} is taken, and --port asks for it: choose another, leave --port out to "
                    f"get one that is free, or see who has it: ss -ltnp 'sport = :{preferred}'"
                )
            self.say(f"port {preferred} is taken: {name} uses {ports[name]}")
        return ports

    async def _start_servers(self, passwords: Passwords, installation: Path, ports: Mapping[str, int]) -> None:
        folder, logs = self._data.path, self._data.logs
        postgres = Postgres(
            folder / "postgres", ports["PostgreSQL"], passwords.postgres, self.say, self.options.postgres_settings
        )
        valkey = Valkey(folder / "valkey", ports["Valkey"], passwords.valkey)
        api = f"http://{_reachable(self.options.host)}:{ports['API']}" if "API" in ports else ""
        neo4j = Neo4j(folder / "neo4j", ports["Bolt"], ports["Neo4j Browser"], passwords.neo4j, installation, api=api)
        self._urls = StackUrls(
            api=api,
            database_url=postgres.url(),
            redis_url=valkey.url,
            neo4j_uri=neo4j.uri,
            neo4j_user=NEO4J_USER,
            neo4j_password=passwords.neo4j,
            neo4j_browser=neo4j.browser_url,
        )
        self.say("starting PostgreSQL, Valkey and Neo4j")
        neo4j.prepare()
        valkey.prepare()
        async with _AllOrFirstError() as group:
            # Neo4j first: it takes longest. The others are prepared while its JVM loads.
            group.add(self._start_process(neo4j.command(logs / "neo4j.log")))
            group.add(self._start_process(valkey.command(logs / "valkey.log")))
            group.add(self._start_postgres(postgres))
        in_order = ("postgres", "valkey", "neo4j")
        self._processes = {name: self._processes[name] for name in in_order}

    async def _start_postgres(self, postgres: Postgres) -> None:
        await in_thread(postgres.prepare)
        await self._start_process(postgres.command(self._data.logs / "postgres.log"))
        await postgres.create_database()

    async def _start_app(self, port: int) -> None:
        self._data.empty_metrics()
        self._dev_tokens = self._variables_of_dev_tokens()
        for app in self._app(self.options, port):
            if app.runs_once:
                await self._run_once(app)
            else:
                await self._start_process(self._app_command(app))

    async def _run_once(self, app: AppProcess) -> None:
        process = ChildProcess(self._app_command(app))
        self._processes[app.name] = process
        try:
            await process.start()
            async with asyncio.timeout(START_MAX_SECONDS):
                code = await process.wait()
        except TimeoutError:
            raise StackError(
                f"{app.name} took longer than {START_MAX_SECONDS:g} s; {process.log_tail()}\n"
                "Run the same command again: it goes on with what is there."
            ) from None
        if code:
            raise StackError(f"{app.name} {describe_exit(code)}; {process.log_tail()}")
        del self._processes[app.name]

    def _variables_of_dev_tokens(self) -> dict[str, str]:
        """The variables by which the API takes the tokens of `nexus-graph dev-token`: on a loopback address, if no
        issuer is set. Makes the data directory's key if there is none. Raises StackError.
        """
        given = {**os.environ, **self.options.env}
        if not is_loopback(self.options.host) or any(given.get(name) for name in dev_key.ISSUER_VARIABLES):
            return {}
        try:
            return dev_key.environment(self._data.path)
        except dev_key.UnusableKey as error:
            raise StackError(str(error)) from error

    def _app_command(self, app: AppProcess) -> Command:
        path, url = app.health_path, self.urls.api

        async def answers() -> bool:
            return (await probes.http(f"{url}{path}")).ok

        return Command(
            name=app.name,
            argv=app.argv,
            log=self._data.logs / f"{app.name}.log",
            cwd=Path.cwd(),
            probe=None if path is None else answers,
            env={
                **os.environ,
                "PYTHONUNBUFFERED": "1",
                METRICS_FOLDER: str(self._data.metrics),
                **self.urls.environment(),
                **self._dev_tokens,
                **self.options.env,
            },
        )

    async def _start_process(self, command: Command) -> None:
        process = ChildProcess(command, on_change=self._record, say=self.say)
        self._processes[command.name] = process
        started = time.monotonic()
        await process.start()
        self.say(f"{command.name} is ready ({time.monotonic() - started:.1f} s)")

    def _record(self) -> None:
        with suppress(OSError):  # a full disk that ends one process must not end the stack
            self._data.record(self.processes)

    async def _keep(self, process: ChildProcess) -> None:
        failures = 0
        while True:
            code = await process.died()
            lifetime = time.monotonic() - (process.started_at or 0.0)
            failures = 1 if lifetime > STABLE_AFTER_SECONDS else failures + 1
            if self._data.is_full:
                failures = min(failures, FAILURES_ON_A_FULL_DISK)  # the fault is the disk's, which may get space
                self.say(f"the disk of {self._data.path} is full")
            if failures > RESTARTS_MAX:
                raise StackError(f"{process.name} keeps dying; {process.log_tail()}")
            delay = min(RESTART_DELAY_BASE_SECONDS * 2 ** (failures - 1), RESTART_DELAY_MAX_SECONDS)
            self.say(f"{process.name} {describe_exit(code)}; starting it again in {delay:g} s")
            await asyncio.sleep(delay)
            if process.running or not process.wanted:
                continue  # started or stopped meanwhile
            try:
                await process.start()
            except StackError as error:
                self.say(str(error))
            else:
                process.restarts += 1
                self.say(f"{process.name} is back")


class _AllOrFirstError:
    """Run coroutines together; the first error cancels the others and is raised itself, not wrapped in a group."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        return self

    def add(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def __aexit__(self, *_: object) -> None:
        try:
            await asyncio.gather(*self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)


def _reachable(host: str) -> str:
    """The address for clients of a server that listens on `host`."""
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return LOOPBACK
    return f"[{host}]" if ":" in host else host


def up(options: StackOptions, *, app: AppProcesses = nexus_processes) -> int:
    """The command: run in the foreground until Ctrl-C. Returns the exit code."""
    return asyncio.run(_up(Stack(options, app=app)))


async def _up(stack: Stack) -> int:
    try:
        _warn_of_exposure(stack)
        run = asyncio.create_task(_run(stack))
        _stop_on_signals(stack, run)
        await run
    except asyncio.CancelledError:
        stack.say("stopped")
        return 0
    except jars.Interrupted:
        return 0
    except StackError as error:
        stack.console.print(str(error), style="red", markup=False)
        return error.exit_code
    except OSError as error:
        stack.console.print(f"the stack cannot run: {error}", style="red", markup=False)
        return 1
    return 0


async def _run(stack: Stack) -> None:
    async with stack:
        with suppress(OSError):
            _welcome(stack)
        preparation = asyncio.create_task(archive.make(jars.installation(), stack.say, in_background=True))
        try:
            await stack.supervise()
        finally:
            preparation.cancel()
            await asyncio.gather(preparation, return_exceptions=True)


def _asks_for_keys(stack: Stack) -> bool:
    """Whether the API asks its callers for credentials: NEXUS_AUTH, as `serve` reads it."""
    auth = {**os.environ, **stack.options.env}.get("NEXUS_AUTH") or "auto"
    return auth == "on" or (auth == "auto" and not is_loopback(stack.options.host))


def _warn_of_exposure(stack: Stack) -> None:
    host = stack.options.host
    if not is_loopback(host) and not _asks_for_keys(stack):
        stack.console.print(
            f"WARNING: NEXUS_AUTH=off and listening on {host}: anyone who can reach this address can read and change "
            "every identity, without a key.",
            style="bold red",
        )


def _stop_on_signals(stack: Stack, run: "asyncio.Task[None]") -> None:
    loop = asyncio.get_running_loop()
    seen: list[signal.Signals] = []

    def on_signal(number: signal.Signals) -> None:
        seen.append(number)
        if len(seen) == 1:
            stack.say(f"{number.name}: stopping everything; send the signal again to force")
            run.cancel()
        else:
            stack.say(f"{number.name}: ending everything at once")
            stack.force()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal, number)


def _welcome(stack: Stack) -> None:
    urls = stack.urls
    table = Table(title="nexus_graph is ready", title_justify="left", title_style="bold green")
    table.add_column("what")
    table.add_column("where", overflow="fold", no_wrap=True)
    table.add_column("for")
    if urls.api:
        table.add_row("GraphQL", f"{urls.api}/graphql", "frontend teams")
        table.add_row("REST", f"{urls.api}/identify", "legacy clients")
        table.add_row("Health", f"{urls.api}/health", "operators")
    table.add_row("Neo4j Browser", urls.neo4j_browser.partition("?")[0], "analysts: the graph")
    table.add_row("Bolt", urls.neo4j_uri, "drivers of Neo4j")
    stack.console.print(table)
    data = stack.options.data_dir
    stack.console.print(f"Passwords: nexus-graph status --json --data-dir {data}", markup=False)
    if urls.api:
        stack.console.print(
            f"Analysts: open {urls.neo4j_browser} and give the password called neo4j_password.", markup=False
        )
    if urls.api:
        key = ""
        if _asks_for_keys(stack):
            stack.console.print(
                f"The API asks for a key: KEY=$(nexus-graph keys create --name me --role admin --data-dir {data})",
                markup=False,
            )
            key = ' -H "Authorization: Bearer $KEY"'
        else:
            stack.console.print("On this loopback address no key is needed.")
        stack.console.print("\nA first request to try:")
        body = '{"email": "lorraine@hillvalley.edu", "phoneNumber": "123456"}'
        stack.console.print(
            f"  curl -s {urls.api}/identify{key} -H 'Content-Type: application/json' -d '{body}'", markup=False
        )
        if not key:
            stack.console.print(f"or open {urls.api}/graphql in a browser.")
    stack.console.print("\nCtrl-C stops everything.")
