"""``hilos contacts``: how each contact of one execution fared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hilos_async.cli import _executions, _ids, _rows
from hilos_async.cli._table import Column

if TYPE_CHECKING:
    import argparse

    from hilos_async.models import ExecutionContact

SUMMARY = "list how each contact of an execution fared"
DESCRIPTION = """\
List the contacts of a flow execution, newest first, with the status each has and the reason for it.
`hilos export --contacts-of` writes them to a file, with their answers."""

_COLUMNS: Final = (
    Column("phone"),
    Column("status"),
    Column("name", least=8, drop=1),
    Column("created", drop=2),
    Column("reason", least=10),
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("execution", metavar="EXECUTION_ID", help="the UUID of an execution")
    _rows.configure(parser, ("table", "ids", "ndjson"))


def run(options: argparse.Namespace) -> int:
    """List, and give the exit code."""
    [execution] = _ids.checked([options.execution])

    return _rows.show(
        options,
        lambda hilos: hilos.list_execution_contacts(execution=execution, search=options.search),
        _COLUMNS,
        _cells,
    )


def _cells(row: ExecutionContact) -> list[str]:
    name = " ".join(filter(None, (row.contact.first_name, row.contact.last_name)))
    return [
        row.contact.phone,
        _executions.shown(row.status),
        _executions.shown(name),
        _executions.moment(row.created_on),
        _executions.shown(row.status_reason),
    ]
