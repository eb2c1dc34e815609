"""ExecutionBatch: what became of many ids, and how it is collected.

Knows results. Refuses to know how they are fetched.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING
from uuid import UUID

from hilos_async._api.model import Model
from hilos_async._api.objects import FlowExecution
from hilos_async._many.summary import Summary, summarize, summarize_by_flow
from hilos_async.errors import HilosError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilos_async._api.words import FlowExecutionStatus


class Progress(Model, frozen=True, kw_only=True):
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


class ExecutionBatch(Model, frozen=True):
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

    def summary(self, tz: tzinfo | str = UTC) -> Summary:
        """Totals over all executions, with dates in the time zone ``tz`` (or its name).

        Raises ``ValueError`` for a name that is no time zone.
        """
        return summarize(self.executions.values(), tz)

    def summary_by_flow(self, tz: tzinfo | str = UTC) -> Summary:
        """Totals for each flow, those with the most contacts first; ``tz`` as in ``summary``."""
        return summarize_by_flow(self.executions.values(), tz)


class Gathering:
    """What ``gather_executions`` collects while the lookups run."""

    def __init__(
        self, clock: Callable[[], float], on_progress: Callable[[Progress], object] | None
    ) -> None:
        self._clock = clock
        self._on_progress = on_progress
        # None: being asked. The place is taken when the id is read: that is the order of the input.
        self._slots: dict[UUID | str, FlowExecution | HilosError | None] = {}
        self._started = clock()
        self._done = self._failed = self._repeated = 0
        self.count: int | None = None  # of ids, repeated ones included

    def accept(self, key: UUID | str) -> bool:
        """Take the id's place; ``False`` if it has one."""
        if key in self._slots:
            self._repeated += 1
            return False
        self._slots[key] = None
        return True

    def deliver(self, key: UUID | str, outcome: FlowExecution | HilosError) -> None:
        """Keep what became of an id and tell how far the batch is."""
        self._slots[key] = outcome
        self._done += 1
        self._failed += isinstance(outcome, HilosError)
        if self._on_progress is not None:
            self._on_progress(
                Progress(
                    done=self._done,
                    failed=self._failed,
                    total=None if self.count is None else self.count - self._repeated,
                    elapsed=self._clock() - self._started,
                )
            )

    def batch(self) -> ExecutionBatch:
        """All that has been delivered, in the order of the input."""
        batch = ExecutionBatch({}, {})
        for key, outcome in self._slots.items():
            if isinstance(outcome, HilosError):
                batch.errors[key] = outcome
            elif outcome is not None and isinstance(key, UUID):
                batch.executions[key] = outcome
        return batch
