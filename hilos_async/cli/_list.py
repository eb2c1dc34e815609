"""``hilos list``: the account's executions, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hilos_async.cli import _executions, _ids, _rows
from hilos_async.cli._table import Column

if TYPE_CHECKING:
    import argparse

    from hilos_async.models import ExecutionBrief

SUMMARY = "list executions, newest first: all, or those of a flow"
DESCRIPTION = """\
List the account's flow executions, newest first, as a table, as JSON or as bare ids. A campaign that is
there from the beginning to the end is listed once, whatever comes and goes meanwhile."""

_COLUMNS: Final = (
    Column("id", shorten=_ids.short_texts),
    Column("status", least=9),
    Column("contacts", right=True, drop=1),
    Column("completed", right=True, drop=2),
    Column("created", drop=3),
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("--flow", metavar="ID", help="only executions of this flow")
    _rows.configure(parser, ("table", "ids", "ndjson"))


def run(options: argparse.Namespace) -> int:
    """List, and give the exit code."""
    flow = None if options.flow is None else _ids.checked([options.flow], "flow")[0]

    return _rows.show(
        options,
        lambda hilos: hilos.list_executions(flow=flow, search=options.search),
        _COLUMNS,
        _cells,
    )


def _cells(row: ExecutionBrief) -> list[str]:
    return [
        str(row.id),
        _executions.shown(row.status),
        f"{row.num_contacts:,}",
        f"{row.completed:,}",
        _executions.moment(row.created_on),
    ]
