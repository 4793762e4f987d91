"""The folder of metrics that processes share: each process writes its own there every second, and any process shows the
sum.

prometheus_client maps the files into memory. On a full disk the first access to a new page of such a map ends the
process by SIGBUS. So this module keeps amounts in memory and writes them with `write` into space that it allocated
before: on a full disk the write succeeds or fails, and the process lives. The files have prometheus_client's own
format, which its collector reads.
"""

import atexit
import os
import shutil
import struct
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, values
from prometheus_client.mmap_dict import mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from nexus_graph.config import METRICS_FOLDER

PREFIX: Final = "nexus-metrics-"
WRITE_SECONDS: Final = 1.0
"""How often a process writes. A killed process loses the counts since its last write."""
_SPARE: Final = 2
_BLOCK_BYTES: Final = 16 * 1024
"""A file starts with twice the space that it needs, in blocks of this size, as room for new labels."""
_HEADER: Final = struct.Struct("i4x")
_AMOUNT: Final = struct.Struct("dd")
_LOCK: Final = "in-use"
_NEW_SECONDS: Final = 60.0
"""The process of a folder younger than this may not have locked it yet."""

_counted: defaultdict[str, list[tuple[bytes, "SharedValue"]]] = defaultdict(list)
"""The amounts of this process by file, each with the start of its entry."""


class SharedValue(values.MutexValue):
    """An amount of a metric, which `MetricsFolder.write` finds."""

    def __init__(  # noqa: PLR0917 - as prometheus_client calls it
        self,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: list[str],
        labelvalues: list[str],
        help_text: str,
        multiprocess_mode: str = "",
        **_: Any,
    ) -> None:
        super().__init__(typ, metric_name, name, labelnames, labelvalues, help_text)  # type: ignore[no-untyped-call]
        self.timestamp = 0.0
        key = mmap_key(metric_name, name, labelnames, labelvalues, help_text).encode()
        padded = key + b" " * (8 - (len(key) + 4) % 8)
        entry = struct.pack(f"i{len(padded)}s", len(key), padded)
        _counted[f"{typ}_{multiprocess_mode}" if typ == "gauge" else typ].append((entry, self))

    def set(self, value: float, timestamp: float | None = None) -> None:
        """As prometheus_client's class; `timestamp` marks the newest of several processes."""
        super().set(value)  # type: ignore[no-untyped-call]
        self.timestamp = timestamp or 0.0


class MetricsFolder:
    """The folder: this process writes its counts and reads those of all processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: dict[str, int] = {}
        """The descriptor of each file of this process."""
        self._writing = threading.Lock()

    def write_on(self) -> None:
        """Write now, every second, and as the process ends."""
        self.write()
        atexit.register(self.write)
        threading.Thread(target=self._write_on, name="metrics", daemon=True).start()

    def write(self) -> bool:
        """Write what this process has counted; False if the disk does not take it all."""
        written = True
        with self._writing:
            for name, amounts in tuple(_counted.items()):
                entries = b"".join(
                    entry + _AMOUNT.pack(each.get(), each.timestamp)  # type: ignore[no-untyped-call]
                    for entry, each in tuple(amounts)
                )
                try:
                    if name not in self._files:
                        self._files[name] = _made(self.path / f"{name}_{os.getpid()}.db", len(entries))
                    # The header last: a concurrent reader reads the old length.
                    _put(self._files[name], entries, _HEADER.size)
                    _put(self._files[name], _HEADER.pack(_HEADER.size + len(entries)), 0)
                except OSError:
                    written = False
        return written

    def together(self) -> CollectorRegistry:
        """The sum of all processes. Gauges of live values count only processes that are alive."""
        self.write()
        for file in self.path.glob("gauge_live*.db"):
            if not _lives(int(file.stem.rpartition("_")[2])):
                file.unlink(missing_ok=True)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(self.path))  # type: ignore[no-untyped-call]
        return registry

    def _write_on(self) -> None:
        while True:
            time.sleep(WRITE_SECONDS)
            self.write()


def _made(path: Path, size: int) -> int:
    """Make a file for so many bytes with its space allocated, then rename it to the name that readers look for. Raises
    OSError if the disk is full.
    """
    taken = (_SPARE * size // _BLOCK_BYTES + 1) * _BLOCK_BYTES
    unnamed = path.with_suffix(".new")
    descriptor = os.open(unnamed, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        _put(descriptor, _HEADER.pack(_HEADER.size) + bytes(taken - _HEADER.size), 0)
        unnamed.rename(path)
    except OSError:
        os.close(descriptor)
        unnamed.unlink(missing_ok=True)
        raise
    return descriptor


def _put(descriptor: int, what: bytes, place: int) -> None:
    while what:
        size = os.pwrite(descriptor, what, place)  # writes a part where the disk is nearly full
        what, place = what[size:], place + size


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for this process and its children. The last of them removes it; folders of killed processes are removed
    first.
    """
    remove_left()
    path = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        with in_use(path):
            yield path
    finally:
        remove_unused(path)


@contextmanager
def in_use(path: Path) -> Iterator[None]:
    """While inside, no other process removes the folder."""
    lock = os.open(path / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        flock(lock, LOCK_SH)
        yield
    finally:
        os.close(lock)


def remove_left() -> None:
    """Remove the folders of processes that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        remove_unused(path)


def remove_unused(path: Path) -> None:
    """Remove the folder unless a process uses it, or has just made it."""
    with suppress(OSError):
        if not (path / _LOCK).exists():
            if time.time() - path.stat().st_mtime > _NEW_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
            return
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        try:
            flock(lock, LOCK_EX | LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True


def opened() -> MetricsFolder | None:
    """The folder that this process counts in, or None. Call it before the first metric is made."""
    if METRICS_FOLDER not in os.environ:
        return None
    values.ValueClass = SharedValue
    return MetricsFolder(Path(os.environ[METRICS_FOLDER]))
