"""The state of watched executions, as a table wants it.

Knows what has been seen of each id. Refuses to know terminals and how the table is drawn.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from hilos_async.cli import _meter, _show
from hilos_async.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilos_async._many.watch import Change
    from hilos_async.models import FlowExecution


@dataclass(slots=True)
class Row:
    """One execution: ``done`` from 0 to 1 is the share of its contacts that are through with it."""

    id: str
    flow: str = ""
    status: str = "…"
    done: float = 0.0
    completed: str = ""
    ended: bool = False
    failed: bool = False  # for good
    moved: int = 0  # the number of the change that was its last: the later, the fresher


class Board:
    """What has been seen of each id so far."""

    def __init__(self, ids: Sequence[UUID | str]) -> None:
        self.ids = ids
        shown = short_ids(ids)
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
            row.completed = f"{execution.completed:,}/{execution.num_contacts:,}"
        elif not change.ended:
            row.status = "no answer"
        else:
            row.failed = True
            row.status = "not found" if isinstance(change.error, NotFoundError) else "no id"

    def tally(self) -> str:
        """How it stands, in words."""
        words = [f"{sum(row.ended for row in self._rows.values()):,} of {len(self.ids):,} ended"]
        states = Counter(row.status for row in self._rows.values())
        words += [f"{count:,} {state}" for state, count in states.most_common(3) if state != "…"]
        return ", ".join(words)

    def foot(self, elapsed: float, requests: int, paused_for: float) -> str:
        """The line below the table."""
        words = f"{self.tally()} · {requests:,} requests in {_meter.duration(elapsed)}"
        return f"{words} · paused for {_meter.duration(paused_for)}" if paused_for else words


def share_done(execution: FlowExecution) -> float:
    """The share of the contacts that are through: completed, failed, expired or canceled."""
    through = execution.completed + execution.failed + execution.expired + execution.canceled
    if not execution.num_contacts:
        return float(execution.is_terminal)
    return min(1.0, through / execution.num_contacts)


def short_ids(ids: Sequence[UUID | str]) -> dict[UUID | str, str]:
    """The ids, short where that tells them apart: their first 8 digits, or their last 12."""
    for part in (slice(8), slice(-12, None)):
        short = {
            id: _show.clean(str(id))[part if isinstance(id, UUID) else slice(12)] for id in ids
        }
        if len(set(short.values())) == len(ids):
            return short
    return {id: _show.clean(str(id)) for id in ids}
