"""Does a starting process make progress, or stand still? On a busy machine a healthy start takes minutes, and the clock
alone does not distinguish it from a hung one.
"""

import os
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Final

CPU_STEP_SECONDS: Final = 1.0
"""Less processor time than this is no progress: a hung server still polls its clock."""

DISK_STEP_BYTES: Final = 1024 * 1024
"""Fewer bytes than this, read from disks or written, are no progress."""

BUSY_LOAD: Final = 1.5
"""Running or waiting processes per core, from which a machine counts as busy."""


class Progress:
    """The work of a process and its children since the start. Each `look` returns whether the work has grown."""

    def __init__(self, pid: int, log: Path) -> None:
        """`log`: the file of its output, whose growth is progress too."""
        self._pid = pid
        self._log = log
        self._started = monotonic()
        self._moved = self._started
        self._noted = self._measured()

    @property
    def waited_seconds(self) -> float:
        """How long the start has taken."""
        return monotonic() - self._started

    @property
    def still_seconds(self) -> float:
        """The time since the last progress."""
        return monotonic() - self._moved

    @property
    def cpu_seconds(self) -> float:
        """The processor time used until the last progress."""
        return self._noted[0]

    def look(self) -> bool:
        """True if there is progress since the last progress."""
        cpu, disk, logged = self._measured()
        noted_cpu, noted_disk, noted_logged = self._noted
        if cpu < noted_cpu + CPU_STEP_SECONDS and disk < noted_disk + DISK_STEP_BYTES and logged == noted_logged:
            return False
        self._noted = (cpu, disk, logged)
        self._moved = monotonic()
        return True

    def _measured(self) -> tuple[float, int, int]:
        """Processor time, bytes from and to disks, size of the log."""
        import psutil  # of the extra `embedded`

        cpu, disk, logged = 0.0, 0, 0
        with suppress(OSError):
            logged = self._log.stat().st_size
        with suppress(psutil.Error):
            process = psutil.Process(self._pid)
            for each in (process, *process.children(recursive=True)):
                with suppress(psutil.Error):
                    times = each.cpu_times()  # of children that ended as well, where the system counts them
                    cpu += times.user + times.system + times.children_user + times.children_system
                with suppress(psutil.Error, AttributeError):  # not every system counts it, nor for everybody
                    counters = each.io_counters()
                    disk += counters.read_bytes + counters.write_bytes
        return cpu, disk, logged


def load() -> str:
    """The load of the machine, as in "load average 10.2 on 2 cores"."""
    cores = os.cpu_count() or 1
    return f"load average {os.getloadavg()[0]:.1f} on {cores} {'core' if cores == 1 else 'cores'}"


def is_busy() -> bool:
    """True if the load exceeds BUSY_LOAD per core."""
    return os.getloadavg()[0] > BUSY_LOAD * (os.cpu_count() or 1)
