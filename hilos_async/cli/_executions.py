"""How executions and failed lookups are shown, and which exit code a lookup's end means.

Knows which columns a reader wants. Refuses to know which command asked.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from hilos_async.cli import _show
from hilos_async.cli._show import FAILED, REFUSED, UNREACHABLE, Column
from hilos_async.errors import AuthenticationError, DeadlineExceededError, StatusError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from hilos_async.errors import HilosError
    from hilos_async.models import FlowExecution

_COLUMNS: Final = (
    Column("id"),
    Column("status"),
    Column("contacts", right=True),
    Column("completed", right=True, under="contacts"),
    Column("rate", right=True),
    Column("last run", under="status"),
    Column("flow", under="id", wraps=True),
)
_ABSENT: Final = "–"


def table(executions: Iterable[FlowExecution]) -> None:
    """Print executions as a table."""
    _show.table(_COLUMNS, [_row(execution) for execution in executions])


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
    moment = execution.last_run_on
    if moment is None:
        return execution.last_run_text or _ABSENT  # the native deployment may send any text
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
