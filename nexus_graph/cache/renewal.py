"""Reading again, before it ends, what is still asked for: together, and behind the readers' backs."""

import asyncio
from contextvars import Context
from typing import Final

from nexus_graph.cache.memory import MemoryFamilies
from nexus_graph.cache.shared import SharedFamilies
from nexus_graph.config import Settings
from nexus_graph.gather.bounds import READS_MAX

_TOGETHER: Final = 0.05
"""The part of a family's life in a process during which those that are to be renewed come together."""


class Renewal:
    """Renews the first level from the second. A family that the second no longer has is dropped from the first."""

    def __init__(self, memory: MemoryFamilies, shared: SharedFamilies, settings: Settings) -> None:
        self._memory = memory
        self._shared = shared
        self._seconds = _TOGETHER * settings.cache_process_seconds
        self._most = READS_MAX
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def soon(self) -> None:
        """Renew what is old, with what is about to be."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._start)

    async def close(self) -> None:
        """Finish what is under way."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await self._task

    def _start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._renew(), context=Context())

    async def _renew(self) -> None:
        try:
            old, self._memory.old = list(self._memory.old), set()
            for first in range(0, len(old), self._most):
                for family_id, family in (await self._shared.again(old[first : first + self._most])).items():
                    if family is None:
                        self._memory.drop(family_id)
                    else:
                        self._memory.renew(family)
        finally:
            self._timer = self._task = None
