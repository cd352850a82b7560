"""What asyncio leaves to its users: whose cancellation it is."""

from __future__ import annotations

import asyncio


def is_own_end(error: BaseException) -> bool:
    """Whether the running task is being cancelled, and not something that it has waited for."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0
