"""Tasks that live longer than the call that started them: kept until they end, and ended only by cancellation."""

import asyncio
from contextlib import suppress
from typing import Any, TypeVar

Running = TypeVar("Running", bound="asyncio.Future[Any]")


def keep(task: Running, tasks: set[Running]) -> None:
    """Hold the task in `tasks` until it ends: the loop alone would forget it. Its error is logged by no one."""

    def ended(_: object) -> None:
        tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not log an error that no caller waits for

    tasks.add(task)
    task.add_done_callback(ended)


def raise_if_cancelled() -> None:
    """Raise CancelledError if a caller has cancelled this task. For loops that survive errors.

    One CancelledError may get lost: the awaited code may raise another error while it closes its connections, or
    `asyncio.wait_for` (before Python 3.12) may return a result that was ready at that moment.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for the event, at most `seconds`; True if it is set."""
    if seconds > 0:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
    return event.is_set()
