"""Totals of many executions, a row for each status or flow, with a bar of what became of the contacts.

Knows the words and the marks. Refuses to know where the executions come from and how a bar is coloured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hilos_async.cli import _table
from hilos_async.cli._table import Column

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hilos_async.models import FlowExecution

BY: Final = ("status", "flow")
_BAR: Final = 20
# What stands in a bar for each share of the contacts, so that it can be read without colours too.
_MARKS: Final = {"completed": "#", "running": "=", "failed": "x", "expired": "-", "canceled": "-"}
_REST: Final = "."
_LEGEND: Final = (
    ("#", "completed"),
    ("=", "running"),
    ("x", "failed"),
    ("-", "expired or canceled"),
    (_REST, "not begun"),
)


def show(executions: Iterable[FlowExecution], by: str) -> None:
    """Print the totals: by status the most executions first, by flow the most contacts."""
    groups: dict[str, list[FlowExecution]] = {}
    for execution in executions:
        name = str(execution.status) if by == "status" else execution.flow.id
        groups.setdefault(name, []).append(execution)
    size = len if by == "status" else _contacts
    rows = [
        [
            name if by == "status" else group[-1].flow.name or name,
            f"{len(group):,}",
            f"{_contacts(group):,}",
            f"{sum(execution.completed for execution in group):,}",
            bar(group),
        ]
        for name, group in sorted(groups.items(), key=lambda group: (-size(group[1]), group[0]))
    ]
    columns = (
        Column(by, least=9),
        Column("executions", right=True, drop=3),
        Column("contacts", right=True, drop=2),
        Column("completed", right=True, drop=1),
        Column("what became of them", bar=True),
    )
    _table.show(columns, rows, legend=_LEGEND)


def bar(executions: Sequence[FlowExecution]) -> str:
    """The shares of the contacts side by side, each by its mark."""
    of = max(1, _contacts(executions))
    drawn, so_far = "", 0
    for outcome, mark in _MARKS.items():
        so_far += sum(getattr(execution, outcome) for execution in executions)
        drawn = drawn.ljust(min(_BAR, round(_BAR * so_far / of)), mark)
    return drawn.ljust(_BAR, _REST)


def _contacts(executions: Sequence[FlowExecution]) -> int:
    return sum(execution.num_contacts for execution in executions)
