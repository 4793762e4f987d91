"""One child process: in its own session, ended by the kernel with its parent, stopped within a bound."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from nexus_graph.devstack.progress import CPU_STEP_SECONDS, Progress, is_busy, load

READY_POLL_SECONDS = 0.05
STANDSTILL_SECONDS = 60.0
"""A start without progress for this long is given up."""
START_MAX_SECONDS = 900.0
"""A start that takes this long is given up despite progress: the process may loop."""
START_REPORT_SECONDS = 15.0
"""How often a long start is reported."""
START_LOOK_SECONDS = 0.5
STOP_TIMEOUT_SECONDS = 10.0
KILL_TIMEOUT_SECONDS = 5.0
EXIT_POLL_SECONDS = 0.1  # only on systems without pidfd
LOG_MAX_BYTES = 10 * 1024 * 1024
LOG_TAIL_BYTES = 4 * 1024
LOG_TAIL_LINES = 12
NICENESS_IN_BACKGROUND = 19
PR_SET_PDEATHSIG = 1

T = TypeVar("T")
Say = Callable[[str], None]
Probe = Callable[[], Awaitable[bool]]

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class StackError(Exception):
    """Why the stack stops, in words for the operator; `exit_code` is the command's."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class SystemUser:
    """The user of a child that runs as another user."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Command:
    """How to run one child, how to probe whether it serves, and how to end it."""

    name: str
    argv: Sequence[str]
    log: Path
    cwd: Path
    probe: Probe | None = None
    """Polled until it returns True; None: a running process is enough. May raise StackError to give up at once."""
    before_start: Callable[[], None] | None = None
    """Runs in a thread before each start, also of a process that died: clears leftovers of the previous run."""
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    user: SystemUser | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    force_signal: signal.Signals = signal.SIGKILL
    """What a second Ctrl-C sends: SIGKILL, except for a server with its own quick shutdown."""
    in_background: bool = False
    """The child runs only in idle processor time."""
    standstill_seconds: float = STANDSTILL_SECONDS
    start_max_seconds: float = START_MAX_SECONDS
    stop_timeout_seconds: float = STOP_TIMEOUT_SECONDS


class ChildProcess:
    """A command that can be started, watched, stopped and started again. Use it from one event loop, in the main
    thread: the kernel's parent-death signal is bound to the thread that starts the child.
    """

    def __init__(
        self,
        command: Command,
        *,
        on_change: Callable[[], None] = lambda: None,
        say: Say = lambda _: None,
    ) -> None:
        """`on_change` is called after each start and end; `say` gets a report of a long start every few seconds."""
        self.command = command
        self._say = say
        self.wanted = False
        """True from `start` to `stop`: a process that is wanted and not running has died."""
        self.restarts = 0
        self.started_at: float | None = None
        self._on_change = on_change
        self._popen: subprocess.Popen[bytes] | None = None
        self._exited: asyncio.Future[int] | None = None
        self._running = asyncio.Event()
        self._log_offset = 0
        self._poller: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self.command.name

    @property
    def running(self) -> bool:
        return self._running.is_set()

    @property
    def pid(self) -> int:
        """The process id. Raises StackError if the process does not run."""
        if self._popen is None or not self.running:
            raise StackError(f"{self.name} is not running")
        return self._popen.pid

    async def start(self) -> None:
        """Start the process and return once it serves. Raises StackError, with the end of the log and nothing left
        running, if the process ends first, makes no progress, or exceeds the longest start.
        """
        if self.running:
            return
        self.wanted = True
        try:
            if self.command.before_start is not None:
                await in_thread(self.command.before_start)
            self._spawn()
        except OSError as error:  # a full disk, above all
            raise StackError(f"{self.name} cannot be started: {error.strerror or error}") from error
        serving = asyncio.create_task(self._serves())
        try:
            await self._wait_while_at_work(serving)
        except BaseException:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await self.end()
            raise

    async def wait(self) -> int:
        """Return the exit code once the process has ended (negative: the signal that ended it)."""
        if self._exited is None:
            raise StackError(f"{self.name} was never started")
        return await asyncio.shield(self._exited)

    async def died(self) -> int:
        """Return the exit code once the process has ended while it is wanted."""
        while True:
            code = await self.wait()
            if self.wanted:
                return code
            await self._running.wait()

    async def stop(self) -> None:
        """End the process for good: stop signal, bounded wait, SIGKILL. Does nothing if it does not run."""
        self.wanted = False
        await self.end()

    async def end(self) -> None:
        """As `stop`, but a supervisor may start it again."""
        if not self.running:
            return
        self._signal(self.command.stop_signal)
        if await self._ended_within(self.command.stop_timeout_seconds):
            return
        self._signal(signal.SIGKILL)
        if not await self._ended_within(KILL_TIMEOUT_SECONDS):
            raise StackError(f"{self.name} (pid {self.pid}) survived SIGKILL: is its disk hanging?")

    def ask_to_stop(self) -> None:
        """Send the stop signal; `wait` returns after the end."""
        self.wanted = False
        self._signal(self.command.stop_signal)

    def kill(self) -> None:
        """Send SIGKILL, as a fault would: the process stays wanted, so a supervisor starts it again."""
        self._signal(signal.SIGKILL)

    def force(self) -> None:
        """End the process at once and for good, without waiting."""
        self.wanted = False
        self._signal(self.command.force_signal)

    def log_tail(self) -> str:
        """The last lines of the log since the start, for a message."""
        with suppress(OSError), self.command.log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_offset, size - LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
            lines = [line for line in lines if any(mark.isalnum() for mark in line)][-LOG_TAIL_LINES:]
            if lines:
                return f"the end of {self.command.log}:\n" + "\n".join(f"  {line}" for line in lines)
        return f"it wrote nothing to {self.command.log}"

    async def _wait_while_at_work(self, serving: "asyncio.Task[None]") -> None:
        """Wait until the process serves. Raises StackError after a standstill, or past the longest start."""
        progress = Progress(self.pid, self.command.log)
        reported = 0.0
        while True:
            done, _ = await asyncio.wait({serving}, timeout=START_LOOK_SECONDS)
            if done:
                return serving.result()
            moved = progress.look()
            waited = progress.waited_seconds
            if waited > self.command.start_max_seconds:
                raise StackError(self._not_started(f"did not answer within {waited:.0f} s, though it was at work"))
            if not moved and progress.still_seconds > self.command.standstill_seconds:
                raise StackError(
                    self._not_started(
                        f"stood still for {progress.still_seconds:.0f} s while it started: it used less than "
                        f"{CPU_STEP_SECONDS:g} s of processor time and wrote nothing to its log"
                    )
                )
            if waited - reported >= START_REPORT_SECONDS:
                reported = waited
                work = "at work" if progress.still_seconds < START_REPORT_SECONDS else "standing still"
                self._say(
                    f"waiting for {self.name}: {waited:.0f} s so far, it is {work} "
                    f"({progress.cpu_seconds:.0f} s of processor time; {load()})"
                )

    def _not_started(self, what: str) -> str:
        """The message: the fault, the machine's load, and what to do next."""
        if is_busy():
            advice = f"This machine is busy ({load()}): run the same command again when it is less so."
        else:
            advice = f"Run the same command again (this machine is not busy: {load()})."
        return f"{self.name} {what}; {self.log_tail()}\n{advice} It goes on with what is there."

    def _spawn(self) -> None:
        command = self.command
        options: dict[str, object] = {}
        if command.user is not None:
            options |= {"user": command.user.uid, "group": command.user.gid, "extra_groups": []}
        with _open_log(command.log) as log, warnings.catch_warnings():
            self._log_offset = log.seek(0, os.SEEK_END)
            # Python warns of a fork among threads; what runs between fork and exec here is two system calls.
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                popen: subprocess.Popen[bytes] = subprocess.Popen(  # type: ignore[call-overload]
                    list(command.argv),
                    cwd=command.cwd,
                    env=dict(command.env),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # a terminal's Ctrl-C reaches only us, and we stop all in order
                    preexec_fn=_die_with_parent(command.stop_signal),  # noqa: PLW1509 - see the warning above
                    umask=0o077,
                    **options,
                )
            except OSError as error:
                raise StackError(f"{self.name} cannot be run: {error}") from error
        if command.in_background:
            _only_when_idle(popen.pid)
        self._popen = popen
        self.started_at = time.monotonic()
        self._exited = asyncio.get_running_loop().create_future()
        self._running.set()
        self._watch(popen)
        self._on_change()

    def _watch(self, popen: subprocess.Popen[bytes]) -> None:
        loop = asyncio.get_running_loop()
        if sys.platform == "linux":
            pidfd = os.pidfd_open(popen.pid)
            loop.add_reader(pidfd, self._reap_by_pidfd, pidfd)
        else:
            self._poller = loop.create_task(self._reap_by_polling())

    def _reap_by_pidfd(self, pidfd: int) -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        self._reap()

    async def _reap_by_polling(self) -> None:
        assert self._popen is not None
        while self._popen.poll() is None:  # noqa: ASYNC110 - without pidfd nothing signals the end
            await asyncio.sleep(EXIT_POLL_SECONDS)
        self._reap()

    def _reap(self) -> None:
        assert self._popen is not None
        assert self._exited is not None
        # End all processes of its session. Its number stays reserved until we collect the exit code.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._running.clear()
        self._exited.set_result(self._popen.wait())
        self._on_change()

    async def _serves(self) -> None:
        assert self._popen is not None
        while True:
            if not self.running:
                code = await self.wait()
                raise StackError(f"{self.name} {describe_exit(code)} while starting; {self.log_tail()}")
            if self.command.probe is None or await self.command.probe():
                return
            await self._ended_within(READY_POLL_SECONDS)

    async def _ended_within(self, seconds: float) -> bool:
        assert self._exited is not None
        await asyncio.wait([self._exited], timeout=seconds)
        return self._exited.done()

    def _signal(self, number: signal.Signals) -> None:
        if self.running and self._popen is not None:
            self._popen.send_signal(number)


async def in_thread(work: Callable[..., T], *arguments: Any, interrupt: Callable[[], None] = lambda: None) -> T:
    """Run blocking work in a thread. On cancellation call `interrupt` and wait for the thread's end: no work may go on
    unattended.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        interrupt()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not report the exception
        raise


def describe_exit(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _only_when_idle(pid: int) -> None:
    with suppress(OSError):
        if sys.platform == "linux":
            os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))  # its later threads inherit it
        else:
            os.setpriority(os.PRIO_PROCESS, pid, NICENESS_IN_BACKGROUND)


def _open_log(path: Path) -> BinaryIO:
    """Open a log for appending, readable by its owner only; a long log is rotated first, and one old log kept."""
    if path.exists() and path.stat().st_size > LOG_MAX_BYTES:
        path.replace(path.with_name(path.name + ".1"))
    return os.fdopen(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600), "ab")


def _die_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    """The function that runs in the child between fork and exec, after the change of user (which would undo it): then
    the kernel sends `death_signal` when the parent ends, even by SIGKILL.
    """
    if _libc is None:
        return None
    prctl = _libc.prctl
    parent = os.getpid()

    def in_child() -> None:
        prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # the parent ended before the call
            os._exit(1)

    return in_child
