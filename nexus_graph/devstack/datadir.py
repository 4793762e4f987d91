"""The data directory of a stack: its lock, its passwords, the record of its processes, and its status."""

import fcntl
import json
import os
import secrets
import shutil
import signal
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexus_graph.devstack.process import ChildProcess, Say, StackError

if TYPE_CHECKING:
    import psutil

PASSWORD_BYTES = 24
STRAY_STOP_SECONDS = 15.0
STRAY_KILL_SECONDS = 5.0
START_TIME_TOLERANCE_SECONDS = 2.0  # the clock may have been set since
COMMAND_LINE_SECONDS = 1.0
COMMAND_LINE_STEP_SECONDS = 0.001
OWNER_ONLY = 0o600
FULL_BYTES = 32 * 1024 * 1024  # two segments of PostgreSQL's log: it cannot start with less


@dataclass(frozen=True)
class Passwords:
    """The servers' passwords, made once per data directory and kept there."""

    postgres: str
    valkey: str
    neo4j: str


@dataclass(frozen=True)
class ProcessRecord:
    """Enough to recognise a process, and to reject another process with the same number."""

    name: str
    pid: int
    started: float
    program: str
    stop_signal: int

    def process(self) -> "psutil.Process | None":
        """The process, if it still runs."""
        import psutil  # of the extra `embedded`

        try:
            process = psutil.Process(self.pid)
            same_start = abs(process.create_time() - self.started) < START_TIME_TOLERANCE_SECONDS
            if same_start and process.status() != psutil.STATUS_ZOMBIE and process.cmdline()[:1] == [self.program]:
                return process
        except psutil.Error:
            pass
        return None

    @classmethod
    def of(cls, name: str, pid: int, stop_signal: signal.Signals = signal.SIGTERM) -> "ProcessRecord | None":
        """Describe a running process; None if it is gone."""
        import psutil  # of the extra `embedded`

        try:
            process = psutil.Process(pid)
            deadline = time.monotonic() + COMMAND_LINE_SECONDS
            # A process has no command line for a moment after its start; a zombie has none.
            while not (command_line := process.cmdline()):
                if time.monotonic() > deadline or process.status() == psutil.STATUS_ZOMBIE:
                    return None
                time.sleep(COMMAND_LINE_STEP_SECONDS)
            started, program = process.create_time(), command_line[0]
            return cls(name, pid, started=started, program=program, stop_signal=int(stop_signal))
        except psutil.Error:
            return None


class DataDirectory:
    """A folder that at most one stack uses at a time. All its secrets are readable by its owner only."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().resolve()  # without links, so that `parents` are all folders above
        self._lock: int | None = None

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def metrics(self) -> Path:
        """The folder of the application's metrics, shared by its processes."""
        return self.path / "metrics"

    @property
    def is_full(self) -> bool:
        """Whether its disk has no space left that a server could use."""
        try:
            return shutil.disk_usage(self.path).free < FULL_BYTES
        except OSError:
            return False

    def empty_metrics(self) -> None:
        """Reset all counts to zero, as after a start."""
        shutil.rmtree(self.metrics, ignore_errors=True)
        self.metrics.mkdir(mode=0o700)

    @property
    def held(self) -> bool:
        """True between `acquire` and `release`."""
        return self._lock is not None

    def acquire(self) -> None:
        """Make the folder if it is missing, and lock it until `release` or the end of this process. Raises StackError
        if another stack uses the folder or this user cannot write to it.
        """
        try:
            # Other users may pass through to their own files inside (PostgreSQL's user, under root), without listing.
            self.path.mkdir(parents=True, exist_ok=True, mode=0o711)
            self.logs.mkdir(exist_ok=True, mode=0o700)
            descriptor = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR, OWNER_ONLY)
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            raise StackError(
                f"the data directory cannot be used: {error}\n"
                "Run as the owner of the directory, or choose another one with --data-dir.",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode().strip()
            os.close(descriptor)
            raise StackError(
                f"a stack already uses {self.path} (process {holder or 'unknown'}).\n"
                "Stop that stack with Ctrl-C in its terminal, or choose another directory with --data-dir.",
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._lock = descriptor

    def is_locked(self) -> bool:
        """True if a stack uses the folder, even while it starts."""
        import psutil  # of the extra `embedded`

        try:
            holder = int((self.path / "lock").read_text())
        except (OSError, ValueError):
            return False
        try:
            return any(file.path == str(self.path / "lock") for file in psutil.Process(holder).open_files())
        except psutil.Error:
            return False

    def release(self) -> None:
        """Unlock the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def passwords(self) -> Passwords:
        """Return the passwords, and make missing ones."""
        path = self.path / "passwords.json"
        known: Mapping[str, str] = json.loads(path.read_text()) if path.exists() else {}
        names = ("postgres", "valkey", "neo4j")
        complete = {name: known.get(name) or secrets.token_urlsafe(PASSWORD_BYTES) for name in names}
        if complete != known:
            write_atomically(path, json.dumps(complete, indent=2) + "\n")
        return Passwords(**complete)

    def record(self, processes: Iterable[ChildProcess]) -> None:
        """Record the running processes, so that the next stack finds them after a kill."""
        records = [
            ProcessRecord.of(process.name, process.pid, process.command.stop_signal)
            for process in processes
            if process.running
        ]
        lines = [asdict(record) for record in records if record is not None]
        write_atomically(self.path / "processes.json", json.dumps(lines, indent=2) + "\n")

    def strays(self) -> list[ProcessRecord]:
        """The recorded processes that still run."""
        try:
            lines = json.loads((self.path / "processes.json").read_text())
            records = [ProcessRecord(**line) for line in lines]
        except (FileNotFoundError, PermissionError, ValueError, TypeError):
            return []
        return [record for record in records if record.process() is not None]

    def end_strays(self, say: Say) -> None:
        """End the processes of a killed stack, in the order in which a stack stops; call this with the lock held.
        A process counts as left over only if its number, start time and program match the record.
        """
        for record in reversed(self.strays()):
            process = record.process()
            if process is None:
                continue
            say(f"ending {record.name} (pid {record.pid}), left over from a stack that was killed")
            _end(process, record.stop_signal)

    def write_status(self, status: Mapping[str, Any]) -> None:
        """Publish that the stack is ready, with its addresses."""
        me = ProcessRecord.of("up", os.getpid())
        assert me is not None
        write_atomically(self.path / "status.json", json.dumps({**status, "up": asdict(me)}, indent=2) + "\n")

    def remove_status(self) -> None:
        """Withdraw the status: no stack is ready."""
        (self.path / "status.json").unlink(missing_ok=True)

    def read_status(self) -> tuple[dict[str, Any] | None, str]:
        """Return the status of the running stack, or None and the reason for its absence."""
        try:
            status = json.loads((self.path / "status.json").read_text())
            record = ProcessRecord(**status.pop("up"))
        except FileNotFoundError:
            return None, f"no stack is ready in {self.path}"
        except PermissionError:
            return None, f"{self.path} belongs to another user"
        except (ValueError, TypeError, KeyError, AttributeError):
            return None, f"{self.path / 'status.json'} is damaged; start the stack again"
        if record.process() is None:
            return None, f"the stack in {self.path} was killed"
        return status, ""


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one step; only its owner may read it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, OWNER_ONLY)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _end(process: "psutil.Process", stop_signal: int) -> None:
    import psutil  # of the extra `embedded`

    for number, seconds in ((stop_signal, STRAY_STOP_SECONDS), (signal.SIGKILL, STRAY_KILL_SECONDS)):
        with suppress(psutil.Error):
            process.send_signal(number)
            if _gone_within(process, seconds):
                return
    if process.is_running():
        raise StackError(f"process {process.pid}, left over from a killed stack, survives SIGKILL; end it by hand")


def _gone_within(process: "psutil.Process", seconds: float) -> bool:
    import psutil  # of the extra `embedded`

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False
