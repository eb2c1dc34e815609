"""One request on its way: what is asked, for whom, its clocks, and what has happened to it so far."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Generic, TypeVar

from hilos_async.errors import DeadlineExceededError, HilosError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from uuid import UUID

    from hilos_async._api.replies import Reader
    from hilos_async._wire.options import Bounds
    from hilos_async._wire.telemetry import Tally

T = TypeVar("T")


class Caller:
    """Whoever started calls: one ``get_execution``, or a batch whose lookups end together.

    ``deadline`` is the batch's own, on the gate's clock. Once ``stopped`` makes an error, no call of
    the caller sends another request; those under way may finish.
    """

    __slots__ = ("deadline", "is_batch", "stopped", "timeout")

    def __init__(
        self, *, is_batch: bool, deadline: float = math.inf, timeout: float | None = None
    ) -> None:
        self.is_batch = is_batch
        self.deadline = deadline
        self.timeout = timeout
        self.stopped: Callable[[], HilosError] | None = None

    def too_late(self, id: UUID, path: str) -> DeadlineExceededError:
        """The error of an id that the batch had no time for."""
        return _too_late("batch", self.timeout, id, path, None)


SINGLE = Caller(is_batch=False)


class Sending:
    """What is sent where it is more than a GET of a path."""

    __slots__ = ("begun_at", "body", "keeps_reply", "method", "query", "reply")

    def __init__(
        self,
        method: str = "GET",
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        keeps_reply: bool = False,
    ) -> None:
        self.method = method
        self.query = query
        self.body = body
        self.begun_at: datetime | None = None  # since then, a byte of the body may have left
        self.keeps_reply = keeps_reply
        self.reply: tuple[int, Mapping[str, str], bytes] | None = None

    @property
    def is_repeatable(self) -> bool:
        """Whether it may be sent again: what only reads, and what cannot have arrived."""
        return self.body is None or self.begun_at is None


class Call(Generic[T]):
    """One request on its way, asked as often as it takes."""

    __slots__ = (
        "attempts",
        "bounds",
        "caller",
        "deadline",
        "delay",
        "failures",
        "followers",
        "id",
        "is_stale",
        "last_error",
        "path",
        "reader",
        "repeated",
        "sending",
        "sent",
        "started",
        "tally",
        "timeout",
        "uncounted",
    )

    def __init__(
        self,
        reader: Reader[T],
        path: str,
        id: UUID | None,
        caller: Caller,
        bounds: Bounds,
        started: float,
        timeout: float | None,
        sending: Sending | None = None,
    ) -> None:
        self.reader = reader
        self.path = path
        self.sending = sending
        self.id = id
        self.caller = caller
        self.bounds = bounds
        self.started = started
        self.timeout = timeout
        self.deadline = math.inf if timeout is None else started + timeout
        self.attempts = 0  # requests sent
        self.sent = started  # when the last one was
        self.is_stale = False  # the last request met a kept connection that had been closed
        self.repeated = False  # it went once more at once for that
        self.failures = 0  # of the requests, those that use up an attempt
        self.uncounted = 0  # those that do not: refused, or on a connection that had been closed
        self.delay = 0.0  # seconds to back off before the next
        self.last_error: HilosError | None = None
        # Those who want the same id, and wait for what is found.
        self.followers: list[asyncio.Future[T | HilosError | None]] | None = None
        self.tally: Tally | None = None  # where somebody listens to what happens

    @property
    def method(self) -> str:
        """The HTTP method."""
        return "GET" if self.sending is None else self.sending.method

    @property
    def wait_deadline(self) -> float:
        """Until when it may wait for the pace: in a batch, that does not count to the lookup."""
        return self.caller.deadline if self.caller.is_batch else self.deadline

    def too_late(self) -> DeadlineExceededError:
        """The error that says whose time ran out, with the last error chained."""
        if self.caller.deadline < self.deadline:
            return _too_late("batch", self.caller.timeout, self.id, self.path, self.last_error)
        return _too_late("lookup", self.timeout, self.id, self.path, self.last_error)


def _too_late(
    whose: str, timeout: float | None, id: UUID | None, path: str, last_error: HilosError | None
) -> DeadlineExceededError:
    last = f"; last: {last_error}" if last_error else ""
    error = DeadlineExceededError(
        f"the {whose}'s timeout of {timeout:g} s left no time for {path}{last}", timeout=timeout
    )
    error.execution_id = id
    error.__cause__ = last_error
    return error
