"""Many lookups at once: the bounded fan-out and ExecutionBatch.

Knows ids, workers and results. Refuses to know HTTP, retries and paces: a lookup is a function that
is given. K workers share one iterator, so at most K tasks live however long the input is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from uuid import UUID

import anyio
import msgspec

from hilos_async import _config
from hilos_async.errors import (
    AuthenticationError,
    DeadlineExceededError,
    HilosError,
    InvalidIdError,
)
from hilos_async.models import FlowExecution

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from hilos_async.enums import FlowExecutionStatus


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a batch is.

    ``done`` lookups have ended, ``failed`` of them in an error; ``total`` is the number of different
    ids, ``None`` as long as it is unknown; ``elapsed`` is in seconds, ``rate`` in lookups per second,
    ``time_left`` in seconds, ``None`` where it cannot be told.
    """

    done: int
    failed: int
    total: int | None
    elapsed: float

    @property
    def rate(self) -> float:
        """Lookups per second so far."""
        return self.done / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def time_left(self) -> float | None:
        """Seconds until the end at the rate so far."""
        if self.total is None or not self.rate:
            return None
        return (self.total - self.done) / self.rate


@dataclass(frozen=True, slots=True, repr=False)
class ExecutionBatch:
    """What became of each id: an execution or an error, each in the order the ids were given.

    ``len()`` counts the ids, the truth value says whether every one of them was fetched.
    """

    executions: dict[UUID, FlowExecution]
    errors: dict[UUID | str, HilosError]

    def __len__(self) -> int:
        return len(self.executions) + len(self.errors)

    def __bool__(self) -> bool:
        return not self.errors

    def __repr__(self) -> str:
        kinds = Counter(type(error).__name__ for error in self.errors.values())
        failed = "".join(f", {count} × {kind}" for kind, count in kinds.most_common())
        return f"<ExecutionBatch of {len(self)}: {len(self.executions)} fetched{failed}>"

    def raise_for_errors(self) -> None:
        """Raise an ``ExceptionGroup`` of all errors, if there is one."""
        if self.errors:
            raise ExceptionGroup(
                f"{len(self.errors)} of {len(self)} lookups failed", list(self.errors.values())
            )

    def by_status(self) -> dict[FlowExecutionStatus, list[FlowExecution]]:
        """The executions grouped by status; in each group in the order of the ids."""
        groups: dict[FlowExecutionStatus, list[FlowExecution]] = {}
        for execution in self.executions.values():
            groups.setdefault(execution.status, []).append(execution)
        return groups


class Gathering:
    """The fan-out behind ``gather_executions``: many lookups at once, each id accounted for.

    ``deadline`` is on the clock; ids that it leaves unasked become ``too_late(id)`` errors. ``stop``
    must make the lookups that wait fail with the error it is given.
    """

    def __init__(
        self,
        ids: Iterable[UUID | str] | AsyncIterable[UUID | str],
        lookup: Callable[[UUID], Awaitable[FlowExecution]],
        *,
        deadline: float,
        clock: Callable[[], float],
        too_late: Callable[[UUID], DeadlineExceededError],
        stop: Callable[[AuthenticationError], None],
        on_progress: Callable[[Progress], object] | None,
    ) -> None:
        self._source = _Source(ids, deadline, clock)
        self._lookup = lookup
        self._deadline = deadline
        self._clock = clock
        self._too_late = too_late
        self._stop = stop
        self._on_progress = on_progress
        # None: being asked. The place is taken when the id is read: that is the order of the input.
        self._slots: dict[UUID | str, FlowExecution | HilosError | None] = {}
        self._refused: AuthenticationError | None = None
        self._started = clock()
        self._done = self._failed = 0

    async def run(self, workers: int) -> ExecutionBatch:
        """Look up all ids with that many workers.

        Raises ``AuthenticationError`` with what had been fetched on it, and whatever the ids or
        ``on_progress`` raise, plain.
        """
        await _in_tasks(self._work, min(workers, self._source.count or workers))
        batch = _sorted_out(self._slots)
        if self._refused is not None:
            self._refused.batch = batch
            raise self._refused
        return batch

    async def _work(self) -> None:
        async for given in self._source:
            if self._refused is not None:
                return
            try:
                execution_id = _config.parse_id(given)
            except InvalidIdError as error:
                text = str(error.execution_id)
                if self._is_new(text):
                    self._settle(text, error)
            else:
                if self._is_new(execution_id):
                    await self._ask(execution_id)

    async def _ask(self, execution_id: UUID) -> None:
        try:
            if self._clock() >= self._deadline:
                raise self._too_late(execution_id)
            execution = await self._lookup(execution_id)
        except AuthenticationError as error:
            if self._refused is None:
                self._refused = error
                self._stop(error)
        except HilosError as error:
            self._settle(execution_id, error)
        else:
            self._settle(execution_id, execution)

    def _is_new(self, key: UUID | str) -> bool:
        if key in self._slots:
            self._source.repeated += 1
            return False
        self._slots[key] = None
        return True

    def _settle(self, key: UUID | str, outcome: FlowExecution | HilosError) -> None:
        self._slots[key] = outcome
        self._done += 1
        self._failed += isinstance(outcome, HilosError)
        if self._on_progress is not None:
            count = self._source.count
            self._on_progress(
                Progress(
                    done=self._done,
                    failed=self._failed,
                    total=None if count is None else count - self._source.repeated,
                    elapsed=self._clock() - self._started,
                )
            )


class _Source:
    """The ids as they are read: one at a time, by whichever worker asks next."""

    def __init__(
        self,
        ids: Iterable[UUID | str] | AsyncIterable[UUID | str],
        deadline: float,
        clock: Callable[[], float],
    ) -> None:
        if isinstance(ids, (str, bytes, UUID)):
            raise TypeError(
                f"ids must be an iterable of ids, not one {type(ids).__name__}: "
                f"[{ids!r}], or get_execution({ids!r})"
            )
        self.count = len(ids) if isinstance(ids, Sized) else None
        self.repeated = 0
        self._deadline = deadline
        self._clock = clock
        self._plain: Iterator[UUID | str] | None = None
        self._lock = anyio.Lock()  # an async generator refuses to be asked twice at once
        if isinstance(ids, AsyncIterable):
            self._asynchronous: AsyncIterator[UUID | str] = aiter(ids)
        else:
            _config.instance("ids", ids, Iterable)
            self._plain = iter(ids)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> UUID | str:
        if self._plain is not None:
            for given in self._plain:
                return given
            raise StopAsyncIteration
        # An async source is not read past the deadline: what it would still give nobody knows.
        patience = self._deadline - self._clock()
        with anyio.move_on_after(patience if patience < math.inf else None):
            async with self._lock:
                return await anext(self._asynchronous)
        raise StopAsyncIteration


async def _in_tasks(work: Callable[[], Coroutine[None, None, None]], count: int) -> None:
    """Run that many workers; the first error of one ends all and comes out plain."""
    try:
        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(work)
    except BaseExceptionGroup as group:
        error = group.exceptions[0]
    else:
        return
    raise error


def _sorted_out(slots: dict[UUID | str, FlowExecution | HilosError | None]) -> ExecutionBatch:
    batch = ExecutionBatch({}, {})
    for key, outcome in slots.items():
        if isinstance(outcome, HilosError):
            batch.errors[key] = outcome
        elif outcome is not None and isinstance(key, UUID):
            batch.executions[key] = outcome
    return batch
