"""One lookup on its way: whose it is, its clocks, and what has happened to it so far.

Knows deadlines. Refuses to know what it waits for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hilos_async.errors import DeadlineExceededError, HilosError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from uuid import UUID

    from hilos_async._api.objects import FlowExecution


class Caller:
    """Whoever started lookups: one ``get_execution``, or a batch whose lookups end together.

    ``deadline`` is the batch's own, on the gate's clock. Once ``stopped`` makes an error, no lookup
    of the caller sends another request; those under way may finish.
    """

    __slots__ = ("deadline", "is_batch", "stopped", "timeout")

    def __init__(
        self, *, is_batch: bool, deadline: float = math.inf, timeout: float | None = None
    ) -> None:
        self.is_batch = is_batch
        self.deadline = deadline
        self.timeout = timeout
        self.stopped: Callable[[], HilosError] | None = None

    def too_late(self, execution_id: UUID) -> DeadlineExceededError:
        """The error of an id that the batch had no time for."""
        return _too_late("batch", self.timeout, execution_id, None)


class Call:
    """One lookup on its way: its id, its clock, and what has happened to it."""

    __slots__ = (
        "attempts",
        "caller",
        "deadline",
        "delay",
        "failures",
        "followers",
        "id",
        "last_error",
        "sent",
        "started",
        "timeout",
    )

    def __init__(
        self, execution_id: UUID, caller: Caller, started: float, timeout: float | None
    ) -> None:
        self.id = execution_id
        self.caller = caller
        self.started = started
        self.timeout = timeout
        self.deadline = math.inf if timeout is None else started + timeout
        self.attempts = 0  # requests sent
        self.sent = started  # when the last one was
        self.failures = 0  # of them, those that use up an attempt
        self.delay = 0.0  # seconds to back off before the next
        self.last_error: HilosError | None = None
        # Those who want the same id, and wait for what is found.
        self.followers: list[asyncio.Future[FlowExecution | HilosError | None]] = []

    @property
    def wait_deadline(self) -> float:
        """Until when it may wait for the pace: in a batch, that does not count to the lookup."""
        return self.caller.deadline if self.caller.is_batch else self.deadline

    def too_late(self) -> DeadlineExceededError:
        """The error that says whose time ran out, with the last error chained."""
        if self.caller.deadline < self.deadline:
            return _too_late("batch", self.caller.timeout, self.id, self.last_error)
        return _too_late("lookup", self.timeout, self.id, self.last_error)


def _too_late(
    whose: str, timeout: float | None, execution_id: UUID, last_error: HilosError | None
) -> DeadlineExceededError:
    last = f"; last: {last_error}" if last_error else ""
    error = DeadlineExceededError(
        f"the {whose}'s timeout of {timeout:g} s left no time for flow-execution/{execution_id}{last}",
        timeout=timeout,
    )
    error.execution_id = execution_id
    error.__cause__ = last_error
    return error
