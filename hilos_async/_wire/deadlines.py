"""When an attempt has taken too long: one timer for all that are under way.

Knows tasks and the loop's clock. Refuses to know what a task does meanwhile. It is asyncio.timeout
but for the timer: one made and cancelled for every attempt was a tenth of what a lookup costs.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class Deadline:
    """A block that its task is cancelled out of when the time is up: ``TimeoutError`` comes out."""

    __slots__ = ("_all", "_cancelling", "_task", "due", "expired")

    def __init__(self, everyone: Deadlines, task: asyncio.Task[object], due: float) -> None:
        self._all = everyone
        self._task = task
        self._cancelling = task.cancelling()
        self.due = due
        self.expired = False

    def expire(self) -> None:
        """End the block now."""
        self.expired = True
        self._task.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._all.open.discard(self)
        # Another cancellation of the task, beside ours, goes on as what it is.
        if (
            self.expired
            and self._task.uncancel() <= self._cancelling
            and isinstance(error, asyncio.CancelledError)
        ):
            raise TimeoutError from error


class Deadlines:
    """The deadlines of all blocks that are open, on one loop."""

    def __init__(self) -> None:
        self.open: set[Deadline] = set()
        self._timer: asyncio.Handle | None = None
        self._rings = math.inf  # when the timer does; uvloop's does not tell if that is at once

    def within(self, seconds: float) -> Deadline:
        """A deadline for the block that the running task is about to enter."""
        task = asyncio.current_task()
        assert task is not None, "a lookup runs in a task"
        loop = task.get_loop()
        due = loop.time() + seconds
        deadline = Deadline(self, task, due)
        if due < self._rings:
            self._set_timer(loop, due)
        self.open.add(deadline)
        return deadline

    def expire(self) -> None:
        """End all blocks now."""
        for deadline in self.open:
            if not deadline.expired:
                deadline.expire()
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._rings = None, math.inf

    def _set_timer(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._rings = loop.call_at(due, self._ring, loop, due), due

    def _ring(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._timer, self._rings = None, math.inf
        now = max(due, loop.time())  # a loop may ring a clock tick early
        waiting = [deadline for deadline in self.open if not deadline.expired]
        for deadline in waiting:
            if deadline.due <= now:
                deadline.expire()
        later = min((deadline.due for deadline in waiting if deadline.due > now), default=None)
        if later is not None:
            self._set_timer(loop, later)
