"""Several processes that serve the API from one listening socket: `serve --workers N`.

The parent serves no request. It starts the workers, restarts a worker that died (after a pause that grows while workers
die young), kills a worker that hangs, and on SIGINT or SIGTERM lets all of them finish. A worker whose parent is gone
stops by itself.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing import connection, get_context, parent_process
from multiprocessing.context import SpawnProcess
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Final, cast

from nexus_graph.api.http.listening import refuse_new
from nexus_graph.config import METRICS_FOLDER, Settings
from nexus_graph.metrics_folder import PREFIX, in_use, remove_unused, temporary_folder
from nexus_graph.telemetry import log

_YOUNG_SECONDS: Final = 10.0
"""A worker that ends younger than so many seconds makes the pause before the next start longer."""

_RESTART_BASE_SECONDS: Final = 0.5
"""Seconds before the first start after such an end; each further pause is twice as long."""

_RESTART_MAX_SECONDS: Final = 30.0
"""The longest pause between two starts, in seconds."""

_STOP_SECONDS: Final = 5.0
"""Seconds past its grace after which a worker that does not end is killed."""

_SILENT_SECONDS: Final = 30.0
"""A worker whose loop has not come round for so many seconds is killed: no busy machine takes as long."""

_STOPPED_SECONDS: Final = 0.5
"""A worker that a signal (SIGSTOP) has stopped for longer is killed: it takes connections and answers none. A worker
under a debugger is left alone."""

_LOG = log("workers")
_SPAWN: Final = get_context("spawn")  # a fork would share event loops, locks and connections

_LOOK_SECONDS: Final = 0.5
"""How often the parent looks at its workers. It counts looks, not time: a machine that paused has paused the parent as
well."""
_DRAINED_SECONDS: Final = 2.0
"""After this, or once a worker has ended, no client waits to be accepted by workers that stop."""
_BEATS_READ: Final = 4_096

Beat = Callable[[], None]
Serve = Callable[[Settings, socket.socket, Beat], int]


class _Worker:
    """A worker process, with its signs of life."""

    def __init__(self, process: SpawnProcess, heart: int) -> None:
        self.process = process
        self.since = monotonic()
        self.silent_looks = 0
        """Looks since its last sign of life; 0 before the first sign."""
        self.stopped_looks = 0
        """Consecutive looks that found it stopped by a signal."""
        self._heart = heart
        self._serves = False

    def look(self) -> None:
        """See how it does."""
        try:
            beat = bool(os.read(self._heart, _BEATS_READ))
        except BlockingIOError:
            beat = False
        self._serves = self._serves or beat
        self.silent_looks = self.silent_looks + 1 if self._serves and not beat else 0
        self.stopped_looks = self.stopped_looks + 1 if _is_stopped(self.process.pid) else 0

    def end(self) -> None:
        """Take note that it has ended."""
        self.process.join()
        os.close(self._heart)


class Workers:
    """`count` processes that run `serve`. A worker's exit code is the result of `serve`; any but 0 is a death."""

    def __init__(self, serve: Serve, settings: Settings, listener: socket.socket, *, count: int) -> None:
        self._serve = serve
        self._settings = settings
        self._listener = listener
        self._count = count
        self._running: dict[int, _Worker] = {}
        self._early_deaths = 0
        self._woken, self._wake = os.pipe()

    def run(self) -> int:
        """Serve until a signal, and return 0; or until a worker fails within `_YOUNG_SECONDS` of the start, and
        return its exit code.
        """
        with _metrics_together(), self._signalled():
            began = monotonic()
            for _ in range(self._count):
                self._start()
            while (ended := self._next_death()) is not None:
                code, lived_seconds = ended
                if code > 0 and monotonic() - began < _YOUNG_SECONDS:
                    return self._stop(code)  # a restart would fail the same way; the worker has logged the reason
                self._early_deaths = self._early_deaths + 1 if lived_seconds < _YOUNG_SECONDS else 0
                if self._pause():
                    break
                self._start()
            return self._stop(0)

    def _start(self) -> None:
        heart, beats = os.pipe()
        os.set_blocking(heart, False)
        os.set_blocking(beats, False)
        with connection.Connection(beats, readable=False) as sent:
            process = _SPAWN.Process(target=_work, args=(self._serve, self._settings, self._listener, sent))
            process.start()
        self._running[process.sentinel] = _Worker(process, heart)
        _LOG.info("worker_started", pid=process.pid)

    def _next_death(self) -> tuple[int, float] | None:
        """Wait for a worker to end. Returns its exit code and its life in seconds; None if a signal came."""
        ready: list[object] = []
        while not ready:
            ready = list(connection.wait([*self._running, self._woken], timeout=_LOOK_SECONDS))
            self._look()
        if self._woken in ready:
            return None
        worker = self._running.pop(cast("int", ready[0]))
        worker.end()
        lived_seconds = monotonic() - worker.since
        code = worker.process.exitcode
        _LOG.warning("worker_died", pid=worker.process.pid, exit_code=code, seconds=round(lived_seconds, 1))
        return code or 0, lived_seconds

    def _look(self) -> None:
        for worker in self._running.values():
            worker.look()
            if worker.stopped_looks * _LOOK_SECONDS > _STOPPED_SECONDS:
                self._kill(worker, "stopped")
            elif worker.silent_looks * _LOOK_SECONDS > _SILENT_SECONDS:
                self._kill(worker, "silent")

    def _kill(self, worker: _Worker, cause: str) -> None:
        if worker.process.is_alive():
            _LOG.error("worker_killed", pid=worker.process.pid, cause=cause)
            worker.process.kill()

    def _pause(self) -> bool:
        """Wait before the next start, longer after each early death; True if a signal came."""
        doubled = _RESTART_BASE_SECONDS * 2.0 ** min(self._early_deaths - 1, 16)
        seconds = min(doubled, _RESTART_MAX_SECONDS) if self._early_deaths else 0.0
        deadline = monotonic() + seconds
        while (left := deadline - monotonic()) > 0:
            if connection.wait([self._woken], timeout=min(left, _LOOK_SECONDS)):
                return True
            self._look()
        return bool(connection.wait([self._woken], timeout=0))

    def _stop(self, code: int) -> int:
        refuse_new(self._listener)
        for worker in self._running.values():
            worker.process.terminate()
        began = monotonic()
        settings = self._settings
        grace = settings.shutdown_delay_seconds + settings.shutdown_grace_seconds + _STOP_SECONDS
        while self._running:
            for ended in connection.wait([*self._running], timeout=_LOOK_SECONDS):
                self._running.pop(cast("int", ended)).end()
                self._close()
            self._look()
            lasted = monotonic() - began
            if lasted > settings.shutdown_delay_seconds + _DRAINED_SECONDS:
                self._close()
            if lasted > grace:
                for worker in self._running.values():
                    self._kill(worker, "did not end")
        return code

    def _close(self) -> None:
        """Refuse clients, also for a worker that holds the socket and accepts no connection."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def _signalled(self) -> Iterator[None]:
        def stop(_signal: int, _frame: FrameType | None) -> None:
            os.write(self._wake, b"!")

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self._wake)
            os.close(self._woken)


def _stop_with_the_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _metrics_together() -> Iterator[None]:
    """A folder that the workers count in, so that any worker shows the sum."""
    if METRICS_FOLDER in os.environ:
        yield
        return
    with temporary_folder() as folder:
        os.environ[METRICS_FOLDER] = str(folder)
        try:
            yield
        finally:
            del os.environ[METRICS_FOLDER]


def _work(serve: Serve, settings: Settings, listener: socket.socket, beats: connection.Connection) -> None:
    threading.Thread(target=_stop_with_the_parent, daemon=True).start()

    def beat() -> None:
        with suppress(OSError):  # the pipe is full: the parent hangs
            os.write(beats.fileno(), b".")

    folder = Path(os.environ[METRICS_FOLDER])
    temporary = folder.name.startswith(PREFIX)
    with in_use(folder) if temporary else nullcontext():
        code = serve(settings, listener, beat)
    parent = parent_process()
    if temporary and (parent is None or not parent.is_alive()):
        remove_unused(folder)
    raise SystemExit(code)


def _is_stopped(pid: int | None) -> bool:
    """True if a signal (not a debugger) has stopped the process. False where the kernel does not say."""
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return status.rpartition(b") ")[2][:1] == b"T"
