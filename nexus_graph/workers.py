"""Several processes that serve the API from one listening socket: `serve --workers N`.

The parent serves nothing. It starts the workers, starts one anew where one dies (after a pause that grows while they
die young), and on SIGINT or SIGTERM lets all of them finish. A worker whose parent is gone stops by itself.
"""

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from multiprocessing.context import SpawnProcess
from time import monotonic
from types import FrameType
from typing import Final, cast

from prometheus_client.multiprocess import mark_process_dead

from nexus_graph.config import METRICS_FOLDER, Settings
from nexus_graph.telemetry import log

_LOG = log("workers")
_SPAWN: Final = get_context("spawn")  # a fork would share event loops, locks and connections

Serve = Callable[[Settings, socket.socket], int]


class Workers:
    """`count` processes that run `serve`. What `serve` returns is a worker's exit code: not 0 is a death."""

    def __init__(self, serve: Serve, settings: Settings, listener: socket.socket, *, count: int) -> None:
        self._serve = serve
        self._settings = settings
        self._listener = listener
        self._count = count
        self._running: dict[int, tuple[SpawnProcess, float]] = {}
        self._early_deaths = 0
        self._woken, self._wake = os.pipe()

    def run(self) -> int:
        """Serve until a signal; the exit code: that of the workers if none of them ever began to serve, else 0."""
        with _metrics_together(), self._signalled():
            began = monotonic()
            for _ in range(self._count):
                self._start()
            while (ended := self._next_death()) is not None:
                code, lived_seconds = ended
                if code > 0 and monotonic() - began < self._settings.worker_young_seconds:
                    return self._stop(code)  # it would fail the same way again: it has said why
                young = lived_seconds < self._settings.worker_young_seconds
                self._early_deaths = self._early_deaths + 1 if young else 0
                if self._pause():
                    break
                self._start()
            return self._stop(0)

    def _start(self) -> None:
        process = _SPAWN.Process(target=_work, args=(self._serve, self._settings, self._listener))
        process.start()
        self._running[process.sentinel] = process, monotonic()
        _LOG.info("worker_started", pid=process.pid)

    def _next_death(self) -> tuple[int, float] | None:
        """Wait for a worker to end; its exit code and how many seconds it lived. None: a signal came."""
        ready = connection.wait([*self._running, self._woken])
        if self._woken in ready:
            return None
        process, since = self._running.pop(cast("int", ready[0]))
        process.join()
        lived_seconds = monotonic() - since
        _LOG.warning("worker_died", pid=process.pid, exit_code=process.exitcode, seconds=round(lived_seconds, 1))
        mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
        return process.exitcode or 0, lived_seconds

    def _pause(self) -> bool:
        """Wait before the next start, longer each time they die young; True if a signal came."""
        doubled = self._settings.worker_restart_base_seconds * 2.0 ** min(self._early_deaths - 1, 16)
        seconds = min(doubled, self._settings.worker_restart_max_seconds) if self._early_deaths else 0.0
        return bool(connection.wait([self._woken], timeout=seconds))

    def _stop(self, code: int) -> int:
        for process, _ in self._running.values():
            process.terminate()
        deadline = monotonic() + self._settings.shutdown_grace_seconds + self._settings.worker_stop_seconds
        for process, _ in self._running.values():
            process.join(max(0.0, deadline - monotonic()))
            if process.is_alive():
                _LOG.error("worker_killed", pid=process.pid)
                process.kill()
                process.join()
        return code

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
    """A folder that the workers count in, so that whoever is asked shows the sum."""
    if METRICS_FOLDER in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="nexus-metrics-", ignore_cleanup_errors=True) as folder:
        os.environ[METRICS_FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[METRICS_FOLDER]


def _work(serve: Serve, settings: Settings, listener: socket.socket) -> None:
    threading.Thread(target=_stop_with_the_parent, daemon=True).start()
    raise SystemExit(serve(settings, listener))
