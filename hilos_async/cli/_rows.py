"""Rows of a list on their way out: as a table at the end, or one a line as they come.

Knows how an end that came too early is told. Refuses to know what a row holds.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from hilos_async._api.model import to_line
from hilos_async.cli import _connection, _executions, _interrupt, _show, _table
from hilos_async.cli._show import FAILED, INTERRUPTED, CommandError
from hilos_async.errors import HilosError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from hilos_async import Listing
    from hilos_async._api.lists import R
    from hilos_async.cli._table import Column
    from hilos_async.session import HilosSession
else:
    R = TypeVar("R")


def configure(parser: argparse.ArgumentParser, formats: Sequence[str]) -> None:
    """Give a command the options that every list has."""
    parser.add_argument(
        "--format",
        choices=formats,
        default="table",
        help="ndjson: one JSON document a line; ids: one id a line, for --ids - of another command "
        "(default: table)",
    )
    parser.add_argument("--search", metavar="TEXT", help="only what the API finds for this text")
    parser.add_argument(
        "--limit", metavar="N", type=_connection.whole, help="the newest N only (default: all)"
    )


def show(
    options: argparse.Namespace,
    listing: Callable[[HilosSession], Listing[R]],
    columns: Sequence[Column],
    cells: Callable[[R], list[str]],
) -> int:
    """Print a list; what had come is printed also if it ends too early. The exit code."""
    session = _connection.connect(options).session
    rows: list[R] = []
    is_table = options.format == "table"

    async def fetch() -> None:
        count = 0
        async with asyncio.timeout(options.timeout), session as hilos:
            async for row in listing(hilos):
                if is_table:
                    rows.append(row)
                else:
                    is_id = options.format == "ids"
                    _show.data(f"{row.id}\n" if is_id else to_line(row).decode(), utf8=True)
                count += 1
                if count == options.limit:
                    return

    code, why = 0, ""
    try:
        _interrupt.run(fetch())
    except TimeoutError:
        code, why = FAILED, "the time is up: this is not the whole list"
    except HilosError as error:
        code, why = _executions.exit_code([error], answered=bool(rows)), str(error)
    except KeyboardInterrupt:
        _show.end_line()
        code, why = INTERRUPTED, "stopped: this is not the whole list"
    if rows:
        _table.show(columns, [cells(row) for row in rows])
    elif is_table and not code:
        _show.message("the list is empty")
    if code:
        raise CommandError(why, code)
    return code
