"""The state of watched executions, as a table wants it.

Knows what has been seen of each id. Refuses to know terminals and how the table is drawn.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hilos_async.cli import _ids, _meter, _show
from hilos_async.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from hilos_async._many.watch import Change
    from hilos_async.models import FlowExecution


NOT_ASKED: Final = "not asked yet"


@dataclass(slots=True)
class Row:
    """One execution: ``done`` from 0 to 1 is the share of its contacts that are through with it.

    ``percent`` is the same in words, ``completed`` how many contacts have completed; both are empty
    as long as no execution has come.
    """

    id: str
    flow: str = ""
    status: str = NOT_ASKED
    done: float = 0.0
    percent: str = ""
    completed: str = ""
    ended: bool = False
    failed: bool = False  # for good
    moved: int = 0  # the number of the change that was its last: the later, the fresher


class Board:
    """What has been seen of each id so far."""

    def __init__(self, ids: Sequence[UUID | str]) -> None:
        self.ids = ids
        shown = _ids.short(ids)
        self._rows = {id: Row(shown[id]) for id in ids}
        self._changes = 0

    @property
    def rows(self) -> list[Row]:
        """One row for each id, in the order of the ids."""
        return list(self._rows.values())

    @property
    def failed(self) -> int:
        """How many ids ended without an execution."""
        return sum(row.failed for row in self._rows.values())

    def short_id(self, id: UUID | str) -> str:
        """The id as the rows show it."""
        return self._rows[id].id

    def take(self, change: Change) -> None:
        """Note a change."""
        row = self._rows[change.id]
        self._changes += 1
        row.moved = self._changes
        row.ended = change.ended
        execution = change.after
        if execution is not None:
            row.flow = _show.clean(execution.flow.name)
            row.status = _show.clean(str(execution.status))
            row.done = share_done(execution)
            row.percent = percent_done(execution)
            row.completed = f"{execution.completed:,}/{execution.num_contacts:,}"
        elif not change.ended:
            row.status = "no answer"
        else:
            row.failed = True
            row.status = "not found" if isinstance(change.error, NotFoundError) else "no id"

    def tally(self) -> str:
        """How it stands, in words: ended, in progress, not asked yet."""
        ended = Counter(row.status for row in self._rows.values() if row.ended)
        asked = Counter(
            row.status for row in self._rows.values() if not row.ended and row.status != NOT_ASKED
        )
        left = len(self.ids) - ended.total() - asked.total()
        words = [f"{ended.total():,} of {len(self.ids):,} ended{_statuses(ended)}"]
        words += [f"{asked.total():,} in progress{_statuses(asked)}"] if asked else []
        words += [f"{left:,} {NOT_ASKED}"] if left else []
        return ", ".join(words)

    def foot(self, elapsed: float, requests: int, paused_for: float) -> str:
        """The line below the table."""
        words = f"{self.tally()} · {requests:,} requests in {_meter.duration(elapsed)}"
        return f"{words} · paused for {_meter.duration(paused_for)}" if paused_for else words


def _statuses(states: Counter[str]) -> str:
    """The most frequent of them in brackets."""
    told = ", ".join(f"{count:,} {state}" for state, count in states.most_common(3))
    return told and f" ({told})"


def share_done(execution: FlowExecution) -> float:
    """The share of the contacts that are through: completed, failed, expired or canceled."""
    if not execution.num_contacts:
        return float(execution.is_terminal)
    return min(1.0, _through(execution) / execution.num_contacts)


def percent_done(execution: FlowExecution) -> str:
    """The same in words, rounded down: nothing says 100 % that is not done."""
    if not execution.num_contacts:
        return "100%" if execution.is_terminal else "0%"
    return f"{min(100, 100 * _through(execution) // execution.num_contacts)}%"


def _through(execution: FlowExecution) -> int:
    return execution.completed + execution.failed + execution.expired + execution.canceled
