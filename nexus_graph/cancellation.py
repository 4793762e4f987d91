"""Tasks that go on until they are cancelled, whatever goes wrong meanwhile."""

import asyncio


def raise_if_cancelled() -> None:
    """Raise CancelledError if this task has been told to end. For loops that outlive errors.

    One CancelledError is not enough to end them: what they were awaiting may have closed its connections on the way
    out, failed at it, and so put another error in its place; or it was ready at that moment, and `asyncio.wait_for`
    (before Python 3.12) gave its result instead.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
