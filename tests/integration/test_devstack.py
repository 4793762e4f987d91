"""The embedded stack on real servers: it starts, mends itself, stops without a trace, and recovers when killed."""

import asyncio
import hashlib
import http.server
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg
import psutil
import pytest
import trustme
from neo4j import AsyncGraphDatabase

from nexus_graph.devstack import jars, probes, stack, status
from nexus_graph.devstack import process as process_module
from nexus_graph.devstack import progress as progress_module
from nexus_graph.devstack.datadir import DataDirectory, ProcessRecord
from nexus_graph.devstack.ports import LOOPBACK, PortLeases, is_free
from nexus_graph.devstack.process import STANDSTILL_SECONDS, ChildProcess, Command, StackError
from nexus_graph.devstack.progress import Progress
from nexus_graph.devstack.stack import Stack, StackOptions, StackUrls
from tests.stage.stacks import supervised

SERVERS = ("postgres", "valkey", "neo4j")
START_SECONDS = 120.0
STOP_SECONDS = 30.0

# The CLI's own loop, with stand-ins for the processes of nexus_graph: these tests are about what runs them.
UP = """
import asyncio, sys
from pathlib import Path
from nexus_graph.devstack import stack

API = '''
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
'''

def app(options, port):
    return [
        stack.AppProcess("migrate", (sys.executable, "-c", "pass"), runs_once=True),
        stack.AppProcess("relay", (sys.executable, "-c", "import threading; threading.Event().wait()")),
        stack.AppProcess("api", (sys.executable, "-c", API, str(port)), health_path="/health"),
    ]

options = stack.StackOptions(data_dir=Path(sys.argv[1]), port=0, browser_port=0, bolt_port=0)
sys.exit(stack.up(options, app=app))
"""


def options_for(data_dir: Path) -> StackOptions:
    return StackOptions(
        data_dir=data_dir,
        servers_only=True,
        postgres_settings={"fsync": "off"},
        browser_port=0,
        bolt_port=0,
        quiet=True,
    )


async def until(condition: Callable[[], Awaitable[bool]], *, seconds: float, what: str) -> None:
    """Wait for a condition that nothing announces."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.05)


async def gone(pids: list[int], *, seconds: float) -> None:
    async def none_left() -> bool:
        return not any(map(alive, pids))

    await until(none_left, seconds=seconds, what=f"the end of {[pid for pid in pids if alive(pid)]}")


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def everything_answers(urls: StackUrls) -> bool:
    answers = await asyncio.gather(
        probes.postgres(urls.database_url),
        probes.valkey(urls.redis_url),
        probes.neo4j(urls.neo4j_uri, urls.neo4j_user, urls.neo4j_password),
        probes.http(urls.neo4j_browser),
    )
    return all(answer.ok for answer in answers)


async def test_servers_serve_mend_themselves_and_stop_without_a_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        options = replace(options_for(tmp_path), browser_port=taken.getsockname()[1], quiet=False)
        async with Stack(options) as running, supervised(running):
            urls = running.urls
            assert await everything_answers(urls)
            assert f":{options.browser_port}/" not in urls.neo4j_browser
            assert f"port {options.browser_port} is taken: Neo4j Browser uses" in capsys.readouterr().out

            with pytest.raises(StackError, match="already uses"):
                await Stack(options_for(tmp_path)).__aenter__()
            assert (await status.read(tmp_path))["ready"] is True, "a refused start must not harm the stack that runs"

            secrets = [urls.neo4j_password, urls.database_url.split(":")[2].split("@")[0]]
            assert not [file for file in files_with_secrets(tmp_path) if file.stat().st_mode & 0o077]

            before = {name: running.process(name).pid for name in SERVERS}
            for name in SERVERS:
                running.process(name).kill()

            async def all_back() -> bool:
                return all(process.running and process.restarts == 1 for process in running.processes)

            await until(all_back, seconds=START_SECONDS, what="every server back")
            assert await everything_answers(urls)
            after = {name: running.process(name).pid for name in SERVERS}
            assert not set(before.values()) & set(after.values())

    printed = capsys.readouterr().out
    assert "neo4j was ended by SIGKILL; starting it again in 0.5 s" in printed
    logs = printed + "".join(log.read_text() for log in (tmp_path / "logs").iterdir())
    assert not [secret for secret in secrets if secret in logs], "a password was printed"
    await gone([*before.values(), *after.values()], seconds=STOP_SECONDS)
    for url in (urls.database_url, urls.redis_url, urls.neo4j_uri, urls.neo4j_browser):
        assert is_free(int(url.rsplit(":", 1)[1].split("/")[0]))
    assert (await status.read(tmp_path))["ready"] is False


async def test_killed_with_minus_nine_nothing_is_left_and_the_next_start_has_the_data(tmp_path: Path) -> None:
    async with upped(tmp_path) as (killed, urls):
        children = recorded(tmp_path)
        assert set(children) == {*SERVERS, "relay", "api"}
        connection = await asyncpg.connect(urls.database_url)
        await connection.execute("CREATE TABLE kept (id int); INSERT INTO kept VALUES (7)")
        await connection.close()
        await write_node(urls)
        killed.kill()
        await gone([killed.pid, *children.values()], seconds=STOP_SECONDS)
        assert (await status.read(tmp_path))["reason"] == f"the stack in {tmp_path} was killed"

    async with upped(tmp_path) as (interrupted, urls):
        children = recorded(tmp_path)
        connection = await asyncpg.connect(urls.database_url)
        assert await connection.fetchval("SELECT id FROM kept") == 7
        await connection.close()
        assert await count_nodes(urls) == 1
        interrupted.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(interrupted.wait, STOP_SECONDS) == 0
        await gone(list(children.values()), seconds=1)
        lines = (tmp_path / "up.log").read_text().splitlines()
        stopped = [line.split()[-1] for line in lines if " stopping " in line and "everything" not in line]
        assert stopped == ["api", "relay", "neo4j", "valkey", "postgres"]
        assert (await status.read(tmp_path))["reason"] == f"no stack is ready in {tmp_path}"


@asynccontextmanager
async def upped(data_dir: Path) -> AsyncIterator[tuple["subprocess.Popen[bytes]", StackUrls]]:
    """A process in which `up` runs, once it is ready; killed at the end if it still runs."""
    process = spawn_up(data_dir)

    async def ready() -> bool:
        assert process.poll() is None, (data_dir / "up.log").read_text()
        return bool((await status.read(data_dir))["ready"])

    try:
        await until(ready, seconds=START_SECONDS, what="a ready stack")
        written = status.read_status(data_dir)
        assert written is not None
        yield process, StackUrls(**written)
    finally:
        process.kill()
        process.wait()


def spawn_up(data_dir: Path) -> "subprocess.Popen[bytes]":
    with (data_dir / "up.log").open("wb") as log:
        return subprocess.Popen([sys.executable, "-c", UP, str(data_dir)], stdout=log, stderr=log)


def files_with_secrets(data_dir: Path) -> list[Path]:
    return [*data_dir.glob("*.json"), *data_dir.glob("*/*.conf"), *data_dir.glob("neo4j/conf/*")]


def recorded(data_dir: Path) -> dict[str, int]:
    return {record.name: record.pid for record in DataDirectory(data_dir).strays()}


async def write_node(urls: StackUrls) -> None:
    async with AsyncGraphDatabase.driver(urls.neo4j_uri, auth=(urls.neo4j_user, urls.neo4j_password)) as driver:
        await driver.execute_query("CREATE (:Kept {id: 7})")


async def count_nodes(urls: StackUrls) -> int:
    async with AsyncGraphDatabase.driver(urls.neo4j_uri, auth=(urls.neo4j_user, urls.neo4j_password)) as driver:
        result = await driver.execute_query("MATCH (k:Kept {id: 7}) RETURN count(k) AS n")
    return int(result.records[0]["n"])


@pytest.mark.parametrize(
    ("host", "auth", "asks"),
    [
        ("127.0.0.1", "", False),
        ("127.0.0.1", "auto", False),
        ("127.0.0.1", "on", True),
        ("0.0.0.0", "", True),
        ("0.0.0.0", "auto", True),
        ("0.0.0.0", "off", False),
    ],
)
def test_up_says_whether_the_api_asks_for_keys(tmp_path: Path, host: str, auth: str, asks: bool) -> None:  # noqa: FBT001 - a parameter of the test
    options = StackOptions(host=host, data_dir=tmp_path, env={"NEXUS_AUTH": auth})
    assert stack._asks_for_keys(Stack(options)) is asks


def test_left_over_processes_are_ended_and_strangers_are_not(tmp_path: Path) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    stray, stranger = subprocess.Popen(sleeper), subprocess.Popen(sleeper)
    try:
        of_stray, of_stranger = ProcessRecord.of("api", stray.pid), ProcessRecord.of("relay", stranger.pid)
        assert of_stray is not None
        assert of_stranger is not None
        # The number of a process that ended long ago, which somebody else's has now.
        reused = replace(of_stranger, started=of_stranger.started - 3_600)
        lines = [of_stray.__dict__, reused.__dict__]
        (tmp_path / "processes.json").write_text(json.dumps(lines))
        said: list[str] = []
        DataDirectory(tmp_path).end_strays(said.append)
        assert stray.wait(STOP_SECONDS) == -signal.SIGTERM
        assert stranger.poll() is None
        assert said == [f"ending api (pid {stray.pid}), left over from a stack that was killed"]
    finally:
        for process in (stray, stranger):
            process.kill()
            process.wait()


async def test_a_process_that_will_not_stay_up_ends_the_supervision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "RESTARTS_MAX", 2)
    monkeypatch.setattr(stack, "RESTART_DELAY_BASE_SECONDS", 0.01)
    failing = Stack(options_for(tmp_path))
    process = ChildProcess(python("print('out of order', flush=True); raise SystemExit(3)", tmp_path))
    failing._processes["relay"] = process
    await process.start()
    async with asyncio.timeout(START_SECONDS):
        with pytest.raises(StackError, match=r"(?s)relay keeps dying; .*out of order"):
            await failing.supervise()


async def test_a_process_that_ignores_sigterm_is_killed_with_its_own_children(tmp_path: Path) -> None:
    text = (
        "import signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "open('child', 'w').write(str(child.pid)); open('written', 'w').close();"
        "child.wait()"
    )

    async def written() -> bool:
        return (tmp_path / "written").exists()

    process = ChildProcess(replace(python(text, tmp_path), probe=written, stop_timeout_seconds=0.2))
    await process.start()
    pids = [process.pid, int((tmp_path / "child").read_text())]
    await process.stop()
    assert await process.wait() == -signal.SIGKILL
    await gone(pids, seconds=STOP_SECONDS)


async def never() -> bool:
    return False


WAITING = "import time; print('waiting for Godot', flush=True); time.sleep(600)"
CIRCLING = "print('round and round', flush=True)\nwhile True: pass"


async def test_a_start_that_stands_still_is_given_up_with_the_end_of_its_log(tmp_path: Path) -> None:
    process = ChildProcess(replace(python(WAITING, tmp_path), probe=never, standstill_seconds=1.0))
    with pytest.raises(
        StackError, match=r"(?s)relay stood still for \d+ s while it started.*waiting for Godot"
    ) as told:
        await process.start()
    assert not process.running
    assert "run the same command again" in str(told.value).lower()
    assert "load average" in str(told.value)


async def test_a_log_without_words_is_called_empty(tmp_path: Path) -> None:
    text = "import time; print('\\n.', flush=True); time.sleep(600)"
    process = ChildProcess(replace(python(text, tmp_path), probe=never, standstill_seconds=1.0))
    with pytest.raises(StackError, match=r"it wrote nothing to .*relay\.log"):
        await process.start()


async def test_a_start_that_works_in_circles_ends_at_the_longest_time(tmp_path: Path) -> None:
    process = ChildProcess(replace(python(CIRCLING, tmp_path), probe=never, start_max_seconds=2.0))
    with pytest.raises(
        StackError, match=r"(?s)did not answer within \d+ s, though it was at work.*round and round"
    ) as told:
        await process.start()
    assert "It goes on with what is there." in str(told.value)
    assert not process.running


async def test_a_start_that_dies_says_how(tmp_path: Path) -> None:
    text = "import os, signal; print('too little memory', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    process = ChildProcess(replace(python(text, tmp_path), probe=never))
    with pytest.raises(StackError, match=r"(?s)relay was ended by SIGKILL while starting; .*too little memory"):
        await process.start()


@pytest.mark.parametrize(
    "step",
    [
        "open('steps', 'a').write('.'); print('step', len(open('steps').read()), flush=True); time.sleep(0.25)",
        "end = time.process_time() + 0.15\n    while time.process_time() < end: pass",
        "subprocess.run([sys.executable, '-c', 'import time\\nwhile time.process_time() < 0.15: pass'])",
    ],
    ids=["its log grows", "it works", "its children work"],
)
async def test_a_slow_start_that_moves_on_is_waited_for(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes, a person hears that it is at work."""
    text = f"""
import subprocess, sys, time
for _ in range(4):
    {step}
    open("beats", "a").write(".")
time.sleep(600)
"""
    monkeypatch.setattr(progress_module, "CPU_STEP_SECONDS", 0.1)
    monkeypatch.setattr(process_module, "START_REPORT_SECONDS", 0.1)
    monkeypatch.setattr(process_module, "START_LOOK_SECONDS", 0.05)
    beats = tmp_path / "beats"

    async def four_beats() -> bool:
        return beats.exists() and beats.stat().st_size >= 4

    said: list[str] = []
    command = replace(python(text, tmp_path), probe=four_beats, standstill_seconds=STANDSTILL_SECONDS)
    process = ChildProcess(command, say=said.append)
    await process.start()
    await process.stop()
    assert any("waiting for relay" in line and "it is at work" in line and "load average" in line for line in said)


def test_each_kind_of_progress_is_seen_and_idling_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "CPU_STEP_SECONDS", 0.1)
    log = tmp_path / "log"
    log.touch()
    child = subprocess.Popen(
        [sys.executable, "-uc", "import sys, time\nfor line in sys.stdin: exec(line); print('done')"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None

    def done(text: str) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(text + "\n")
        child.stdin.flush()
        assert child.stdout.readline() == "done\n"

    try:
        done("pass")
        progress = Progress(child.pid, log)
        done("time.sleep(0.01)")
        assert not progress.look(), "it slept"
        done("[None for _ in iter(lambda: time.process_time() < 0.15, False)]")
        assert progress.look(), "it used processor time"
        assert not progress.look()
        log.write_text("a line")
        assert progress.look(), "its log grew"
        assert not progress.look()
        log.write_text("")
        assert progress.look(), "its log was begun anew"
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()
    assert not progress.look(), "it is gone"


async def test_a_port_that_was_asked_for_and_is_taken_is_an_error(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        options = StackOptions(data_dir=tmp_path / "data", port=port, quiet=True)
        with pytest.raises(StackError, match=rf"port {port} of {LOOPBACK} is taken, and --port asks for it") as told:
            await Stack(options).__aenter__()
    assert "\n" not in str(told.value)
    assert not (tmp_path / "data" / "postgres").exists(), "nothing was started"


def python(text: str, folder: Path) -> Command:
    return Command(name="relay", argv=[sys.executable, "-c", text], log=folder / "relay.log", cwd=folder)


def test_a_port_is_the_wished_one_or_another_free_one() -> None:
    first, second = PortLeases(), PortLeases()
    wished = first.choose(0)
    assert second.choose(wished) != wished, "another stack has chosen it, though it does not listen yet"
    first.release()
    assert second.choose(wished) == wished
    second.release()


class Repository(http.server.ThreadingHTTPServer):
    """A Maven repository of two-line jars; `requested` are the names it was asked for."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.files = files
        self.requested: list[str] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Repository

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[1]
        self.server.requested.append(name)
        content = self.server.files.get(name)
        self.send_response(200 if content is not None else 404)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        pass


@contextmanager
def repository(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, authority: "trustme.CA | None" = None
) -> Iterator[Repository]:
    """Serve three jars, and make the lock file name just these; by https where there is an authority to sign for it."""
    contents = {f"org.example:{name}:1.0": f"the jar {name}\n".encode() * 2 for name in ("a", "b", "c")}
    lines = [f"{name} {len(content)} {hashlib.sha256(content).hexdigest()}" for name, content in contents.items()]
    lock_file = folder / "test.lock"
    lock_file.write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(jars, "LOCK_FILE", lock_file)
    monkeypatch.setattr(jars, "DOWNLOAD_RETRY_BASE_SECONDS", 0.001)
    monkeypatch.setenv("NEXUS_CACHE_DIR", str(folder / "cache"))
    with Repository({jar.file_name: contents[jar.coordinate] for jar in jars.locked_jars()}) as server:
        scheme = "http"
        if authority is not None:
            context, scheme = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), "https"
            authority.issue_cert(LOOPBACK).configure_cert(context)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        monkeypatch.setenv("NEXUS_MAVEN_URL", f"{scheme}://{LOOPBACK}:{server.server_port}/maven2")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def test_an_interrupted_download_goes_on_with_what_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with repository(tmp_path, monkeypatch) as server:
        folder = jars.installation()
        staging = folder.with_name(folder.name + ".staging")
        (staging / "jars").mkdir(parents=True)
        (staging / "incoming" / "org").mkdir(parents=True)
        (staging / "jars" / "a-1.0.jar").write_bytes(server.files["a-1.0.jar"])
        (staging / "jars" / "b-1.0.jar").write_bytes(server.files["b-1.0.jar"][:-1])
        assert not jars.is_complete(folder)

        assert install() == folder
        assert sorted(server.requested) == ["b-1.0.jar", "c-1.0.jar"]
        assert {jar.name: jar.read_bytes() for jar in (folder / "jars").iterdir()} == server.files
        assert not staging.exists()

        install()
        assert len(server.requested) == 2, "what is complete is not asked for again"
        (folder / "jars" / "c-1.0.jar").unlink()
        install()
        assert jars.is_complete(folder), "somebody deleted a jar: made anew"


def test_a_jar_that_is_not_the_locked_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with repository(tmp_path, monkeypatch) as server:
        good = server.files["b-1.0.jar"]
        server.files["b-1.0.jar"] = good.upper()
        with pytest.raises(StackError, match=r"org.example:b:1.0 .*not what the lock file names"):
            install()
        assert not jars.installation().exists()
        assert server.requested.count("b-1.0.jar") == jars.DOWNLOAD_TRIES_MAX
        server.files["b-1.0.jar"] = good
        assert jars.is_complete(install())


def test_two_first_starts_at_once_download_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with repository(tmp_path, monkeypatch) as server:
        text = (
            "import threading; from pathlib import Path; from nexus_graph.devstack import jars;"
            f"jars.LOCK_FILE = Path({str(jars.LOCK_FILE)!r}); jars.install(print, None, threading.Event())"
        )
        both = [subprocess.Popen([sys.executable, "-c", text], env=dict(os.environ)) for _ in range(2)]
        assert [process.wait(STOP_SECONDS) for process in both] == [0, 0]
        assert sorted(server.requested) == sorted(server.files)
        assert jars.is_complete(jars.installation())


def test_an_interrupt_stops_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with repository(tmp_path, monkeypatch):
        interrupted = threading.Event()
        interrupted.set()
        with pytest.raises(jars.Interrupted):
            jars.install(lambda _: None, None, interrupted)
        assert not jars.installation().exists()


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_who_signs_for_downloads_is_whom_this_machine_trusts(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    with repository(tmp_path, monkeypatch, authority=authority) as server:
        with pytest.raises(StackError, match=f"{LOOPBACK}:{server.server_port}.*REQUESTS_CA_BUNDLE=.*SSL_CERT_FILE"):
            install()
        assert not server.requested
        monkeypatch.setenv(variable, str(tmp_path / "ca.pem"))
        assert jars.is_complete(install())
        assert sorted(server.requested) == sorted(server.files)


def install() -> Path:
    return jars.install(lambda _: None, None, threading.Event())
