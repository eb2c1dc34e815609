"""How executions and failed lookups are shown, and which exit code a lookup's end means.

Knows which columns a reader wants. Refuses to know which command asked.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from hilos_async.cli import _ids, _table
from hilos_async.cli._show import FAILED, REFUSED, UNREACHABLE
from hilos_async.cli._table import Column
from hilos_async.errors import AuthenticationError, DeadlineExceededError, StatusError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from hilos_async.errors import HilosError
    from hilos_async.models import FlowExecution

_COLUMNS: Final = (
    Column("id", shorten=_ids.short_texts),
    Column("status", least=9),
    Column("contacts", right=True, drop=2),
    Column("completed", right=True, drop=3),
    Column("rate", right=True, drop=1),
    Column("last run", drop=4),
    Column("flow", least=14),
)
_ABSENT: Final = "–"


def table(executions: Iterable[FlowExecution]) -> None:
    """Print executions as a table."""
    _table.show(_COLUMNS, [_row(execution) for execution in executions])


def _row(execution: FlowExecution) -> list[str]:
    rate = execution.completion_rate
    return [
        str(execution.id),
        str(execution.status),
        f"{execution.num_contacts:,}",
        f"{execution.completed:,}",
        _ABSENT if rate is None else f"{rate:.1%}",
        _last_run(execution),
        execution.flow.name,
    ]


def _last_run(execution: FlowExecution) -> str:
    if execution.last_run_on is None:
        return shown(execution.last_run_text)  # the native deployment may send any text
    return moment(execution.last_run_on)


def shown(text: str | None) -> str:
    """A text, or a dash where there is none."""
    return text or _ABSENT


def moment(moment: datetime | None) -> str:
    """A moment on this machine's clock, to the minute."""
    if moment is None:
        return _ABSENT
    # A year that the local clock cannot show stays in the API's zone.
    with contextlib.suppress(OverflowError, OSError, ValueError):
        moment = moment.astimezone()
    return f"{moment:%Y-%m-%d %H:%M}"


def exit_code(errors: Collection[HilosError], *, answered: bool) -> int:
    """The exit code of a command whose lookups ended in these errors.

    ``answered`` says that some lookup found an execution.
    """
    if not errors:
        return 0
    if any(isinstance(error, AuthenticationError) for error in errors):
        return REFUSED
    return FAILED if answered or any(map(is_sensible, errors)) else UNREACHABLE


def is_sensible(error: BaseException | None) -> bool:
    """Whether the API was there and refused in words of its own, as no other web server does."""
    if isinstance(error, DeadlineExceededError):
        error = error.__cause__
    return isinstance(error, StatusError) and 400 <= error.status < 500 and bool(error.detail)
