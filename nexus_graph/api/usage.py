"""What this process takes of the machine: memory and processor time."""

import resource
import sys
from pathlib import Path
from time import monotonic, process_time
from typing import Final

import msgspec

LEAST_SECONDS: Final = 1.0
"""The shortest time over which the percentage is taken: a shorter one would jump between extremes."""

_STATM: Final = Path("/proc/self/statm")


class Usage(msgspec.Struct, frozen=True, rename="camel"):
    """Of this process alone, where several serve."""

    memory_bytes: int
    """Memory in use; where the system does not tell, the most there ever was."""
    cpu_seconds: float
    """Processor time since the start."""
    cpu_percent: float
    """Percent of one processor since the last reading, at least LEAST_SECONDS ago."""


class UsageMeter:
    """Reads the figures. One a process."""

    def __init__(self) -> None:
        self._at, self._cpu_seconds = monotonic(), process_time()
        self._percent = 0.0

    def read(self) -> Usage:
        """The figures now."""
        now, cpu_seconds = monotonic(), process_time()
        if now - self._at >= LEAST_SECONDS:
            self._percent = 100 * (cpu_seconds - self._cpu_seconds) / (now - self._at)
            self._at, self._cpu_seconds = now, cpu_seconds
        return Usage(_memory_bytes(), round(cpu_seconds, 2), round(self._percent, 1))


def _memory_bytes() -> int:
    try:
        return int(_STATM.read_bytes().split()[1]) * resource.getpagesize()
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
