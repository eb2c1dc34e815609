"""Batches: what became of many ids, and how that is collected while the lookups run."""

from __future__ import annotations

import html
from collections import Counter
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Generic, TypeVar
from uuid import UUID

from hilos_async import _checks

# Imported for what it registers: how an error in a batch is written as JSON.
from hilos_async._api import problem  # noqa: F401  # pyright: ignore[reportUnusedImport]
from hilos_async._api.columns import COLUMNS, Cell
from hilos_async._api.contacts import ExecutionContact
from hilos_async._api.model import Model
from hilos_async._api.objects import FlowExecution
from hilos_async._many.summary import (
    Summary,
    in_zone,
    summarize,
    summarize_by_flow,
    zone_of,
)
from hilos_async.errors import HilosError, InvalidIdError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilos_async._api.words import FlowExecutionStatus

T = TypeVar("T")


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


class Batch(Generic[T]):
    """What became of each id: a result or an error, each in the order the ids were given.

    ``len()`` counts the ids, the truth value says whether every one of them was fetched.
    ``batch[id]``, ``batch.get(id)`` and ``id in batch`` take an id in any spelling.
    """

    __slots__ = ()

    errors: dict[UUID | str, HilosError]

    @property
    def results(self) -> dict[UUID, T]:
        """What was fetched, by id."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.results) + len(self.errors)

    def __bool__(self) -> bool:
        return not self.errors

    def __repr__(self) -> str:
        kinds = Counter(type(error).__name__ for error in self.errors.values())
        failed = "".join(f", {count} × {kind}" for kind, count in kinds.most_common())
        return f"<{type(self).__name__} of {len(self)}: {len(self.results)} fetched{failed}>"

    def __getitem__(self, id: UUID | str) -> T:
        """The result of an id in any spelling.

        Raises the id's own error if it has one, and ``KeyError`` for an id that the batch does not have.
        """
        key = _key(id)
        if (error := self.errors.get(key)) is not None:
            raise error
        return self.results[key]  # type: ignore[index]  # text that is no id is in no results

    def __contains__(self, id: object) -> bool:
        key = _key(id)
        return key in self.results or key in self.errors

    def get(self, id: UUID | str) -> T | None:
        """The result of an id in any spelling; ``None`` if it failed or the batch does not have it."""
        key = _key(id)
        return None if isinstance(key, str) else self.results.get(key)

    def raise_for_errors(self) -> None:
        """Raise an ``ExceptionGroup`` of all errors, if there is one."""
        if self.errors:
            raise ExceptionGroup(
                f"{len(self.errors)} of {len(self)} lookups failed", list(self.errors.values())
            )


def _key(id: object) -> UUID | str:
    try:
        return _checks.parse_id(id)
    except InvalidIdError as error:
        return str(error.execution_id)


class ExecutionBatch(Batch[FlowExecution], Model, frozen=True):
    """What became of each id: an execution or an error, each in the order the ids were given.

    ``len()`` counts the ids, the truth value says whether every one of them was fetched.
    ``batch[id]``, ``batch.get(id)`` and ``id in batch`` take an id in any spelling.
    """

    executions: dict[UUID, FlowExecution]
    errors: dict[UUID | str, HilosError]

    @property
    def results(self) -> dict[UUID, FlowExecution]:
        """The executions, under the name that all batches have."""
        return self.executions

    def by_status(self) -> dict[FlowExecutionStatus, list[FlowExecution]]:
        """The executions grouped by status; in each group in the order of the ids."""
        groups: dict[FlowExecutionStatus, list[FlowExecution]] = {}
        for execution in self.executions.values():
            groups.setdefault(execution.status, []).append(execution)
        return groups

    def to_rows(self, tz: tzinfo | str = UTC) -> list[dict[str, Cell]]:
        """Each execution as one flat dict: ``DataFrame(batch.to_rows())``.

        The keys are the columns of an export, but for those of errors: a failed id has no row and is
        in ``errors``. Date-times are in the time zone ``tz`` (or its name).

        Raises ``ValueError`` for a name that is no time zone.
        """
        zone = zone_of(tz)
        rows: list[dict[str, Cell]] = []
        for id, execution in self.executions.items():
            row: dict[str, Cell] = {"id": str(id)}
            for name, cell_of in COLUMNS.items():
                cell = cell_of(execution)
                row[name] = in_zone(cell, zone) if isinstance(cell, datetime) else cell
            rows.append(row)
        return rows

    def _repr_html_(self) -> str:
        """How it went, and the totals of each flow, where a notebook shows it."""
        return f"<p>{html.escape(repr(self))}</p>{self.summary_by_flow().to_html()}"

    def summary(self, tz: tzinfo | str = UTC) -> Summary:
        """Totals over all executions, with dates in the time zone ``tz`` (or its name).

        Raises ``ValueError`` for a name that is no time zone.
        """
        return summarize(self.executions.values(), tz)

    def summary_by_flow(self, tz: tzinfo | str = UTC) -> Summary:
        """Totals for each flow, those with the most contacts first; ``tz`` as in ``summary``."""
        return summarize_by_flow(self.executions.values(), tz)


class ContactBatch(Batch[ExecutionContact], Model, frozen=True):
    """What became of each id: a contact of an execution or an error, each in the order of the ids.

    ``len()`` counts the ids, the truth value says whether every one of them was fetched.
    ``batch[id]``, ``batch.get(id)`` and ``id in batch`` take an id in any spelling.
    """

    contacts: dict[UUID, ExecutionContact]
    errors: dict[UUID | str, HilosError]

    @property
    def results(self) -> dict[UUID, ExecutionContact]:
        """The contacts, under the name that all batches have."""
        return self.contacts


class Gathering(Generic[T]):
    """What a batch collects while its lookups run: the sink of its fan-out."""

    room = None  # outcomes are kept, however many

    def __init__(
        self,
        count: int | None,
        clock: Callable[[], float],
        on_progress: Callable[[Progress], object] | None,
    ) -> None:
        self._count = count  # of ids, repeated ones included
        self._clock = clock
        self._on_progress = on_progress
        self._keys: list[UUID | str] = []  # in the order of the input: as they were read
        # None: being asked. By the number of the id: the hash of a UUID is Python code.
        self._slots: dict[int | str, T | HilosError | None] = {}
        self._started = clock()
        self._done = self._failed = self._repeated = 0

    def accept(self, key: UUID | str) -> bool:
        """Take the id's place; ``False`` if it has one."""
        number = key if isinstance(key, str) else key.int
        if number in self._slots:
            self._repeated += 1
            return False
        self._slots[number] = None
        self._keys.append(key)
        return True

    def deliver(self, key: UUID | str, outcome: T | HilosError) -> None:
        """Keep what became of an id and tell how far the batch is."""
        self._slots[key if isinstance(key, str) else key.int] = outcome
        self._done += 1
        self._failed += isinstance(outcome, HilosError)
        if self._on_progress is not None:
            progress = Progress(
                done=self._done,
                failed=self._failed,
                total=None if self._count is None else self._count - self._repeated,
                elapsed=self._clock() - self._started,
            )
            _checks.ignored("on_progress", self._on_progress(progress))

    def outcomes(self, *, is_whole: bool) -> tuple[dict[UUID, T], dict[UUID | str, HilosError]]:
        """Results and errors, in the order of the input.

        ``is_whole``: every id that was read must have an outcome. Raises ``RuntimeError`` if one has
        none: a batch that has lost an id must not look complete.
        """
        results: dict[UUID, T] = {}
        errors: dict[UUID | str, HilosError] = {}
        for key, outcome in zip(self._keys, self._slots.values(), strict=True):
            if isinstance(outcome, HilosError):
                errors[key] = outcome
            elif outcome is not None and isinstance(key, UUID):
                results[key] = outcome
            elif is_whole:
                raise RuntimeError(f"the lookup of {key} ended without an outcome: report this")
        return results, errors
