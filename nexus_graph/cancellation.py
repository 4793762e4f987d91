"""For tasks that survive errors and end only by cancellation."""

import asyncio


def raise_if_cancelled() -> None:
    """Raise CancelledError if a caller has cancelled this task. For loops that survive errors.

    One CancelledError may get lost: the awaited code may raise another error while it closes its connections, or
    `asyncio.wait_for` (before Python 3.12) may return a result that was ready at that moment.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
