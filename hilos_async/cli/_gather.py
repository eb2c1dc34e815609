"""``hilos gather``: many executions at once, as a table or in a form for other programs.

Knows the four forms. Refuses to know how the ids were read and how fast they are asked; and to lose
what had come when Ctrl-C or a refused key ends it early.
"""

from __future__ import annotations

import io
import time
from datetime import UTC
from typing import TYPE_CHECKING, Final

from hilos_async._many.batch import Progress
from hilos_async._many.stream import Lookup
from hilos_async.cli import _connection, _executions, _ids, _interrupt, _meter, _show, _totals
from hilos_async.cli._show import INTERRUPTED, USAGE, CommandError
from hilos_async.errors import AuthenticationError, InvalidIdError
from hilos_async.export import Record
from hilos_async.export._columns import EXECUTIONS
from hilos_async.export._tables import CSV

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable
    from uuid import UUID

    from hilos_async.errors import HilosError
    from hilos_async.session import HilosSession

SUMMARY = "look up many executions, as a table, JSON or CSV"
DESCRIPTION = """\
Look up many flow executions, given as arguments, in a file or on standard input. A line that is no id
is told with its number and stays in the output as an error, as a lookup does that fails."""

_FORMATS: Final = ("table", "json", "ndjson", "csv")
_TOLD: Final = 10  # errors, one by one; of the rest only the number


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("ids", nargs="*", metavar="ID", help="the UUID of an execution")
    _ids.configure(parser)
    parser.add_argument(
        "--format",
        choices=_FORMATS,
        default="table",
        help="json: one array; ndjson: one document a line, as they come, the others in the order of "
        'the ids; both have {"id", "execution"} or {"id", "error": {"type", "message", "status"}}; '
        "csv: the columns of `hilos export`, dates in UTC (default: table)",
    )
    parser.add_argument(
        "--excel",
        action="store_true",
        help="begin the csv with a byte order mark, without which Excel takes its accents for others",
    )
    parser.add_argument(
        "--summary",
        action="store_true",
        help="a table of totals in place of one of executions: a row for each status",
    )
    parser.add_argument(
        "--by", choices=_totals.BY, help="the same with a row for each flow, or each status"
    )
    _connection.configure_pace(parser)


def run(options: argparse.Namespace) -> int:
    """Look up, print, and say in the exit code how it went."""
    if options.excel and options.format != "csv":
        raise CommandError("--excel is for --format csv", USAGE)
    by: str | None = options.by or ("status" if options.summary else None)
    if by and options.format != "table":
        raise CommandError(f"a summary is a table: leave out --format {options.format}", USAGE)
    ids = _ids.given(options.ids, options.file)
    session = _connection.connect(
        options, pace=options.pace, max_concurrency=options.max_concurrency
    ).session
    found = _Found(ids, options.format, by=by, bom=options.excel)
    try:
        _interrupt.run(_fetch(session, found, options.timeout))
    except KeyboardInterrupt:
        _show.end_line()
        found.show()
        _show.message(f"stopped: {found.done:,} of {len(ids):,} were looked up")
        return INTERRUPTED
    found.show()
    return found.report()


async def _fetch(session: HilosSession, found: _Found, timeout: float | None) -> None:
    """Take what becomes of each id; if the key is refused, that is the error of all that are left."""
    async with session as hilos:
        with _meter.Meter(len(found.ids), hilos) as meter:
            try:
                async with hilos.stream_executions(found.ids, timeout=timeout) as lookups:
                    async for lookup in lookups:
                        found.take(lookup)
                        meter.heard(found.progress())
            except AuthenticationError as error:
                found.refuse(error)


class _Found:
    """What has been found so far, and how to print it."""

    def __init__(
        self, ids: list[UUID | str], form: str, *, by: str | None = None, bom: bool = False
    ) -> None:
        self.ids = ids
        self.done = 0
        self._form = form
        self._by = by
        self._bom = bom
        self._lookups: dict[UUID | str, Lookup] = {}
        self._errors: dict[UUID | str, HilosError] = {}
        self._started = time.monotonic()

    def take(self, lookup: Lookup) -> None:
        """Keep a lookup for the end; an NDJSON line is printed at once and the execution dropped."""
        self.done += 1
        if lookup.error is not None:
            self._errors[lookup.id] = lookup.error
        if self._form == "ndjson":
            _show.data(Record.of(lookup).to_line().decode(), utf8=True)
            lookup = Lookup(lookup.id)
        self._lookups[lookup.id] = lookup

    def refuse(self, error: AuthenticationError) -> None:
        """Make the refused key the error of every id that has no outcome."""
        for id in self.ids:
            if id not in self._lookups:
                self.take(Lookup(id, None, error))

    def progress(self) -> Progress:
        return Progress(
            done=self.done,
            failed=len(self._errors),
            total=len(self.ids),
            elapsed=time.monotonic() - self._started,
        )

    def show(self) -> None:
        """Print what there is, in the order of the ids."""
        lookups = [self._lookups[id] for id in self.ids if id in self._lookups]
        if self._form == "table":
            executions = [found.execution for found in lookups if found.execution is not None]
            if executions and self._by:
                _totals.show(executions, self._by)
            elif executions:
                _executions.table(executions)
        elif self._form == "json":
            documents = b",\n".join(Record.of(lookup).to_line()[:-1] for lookup in lookups)
            _show.data(f"[\n{documents.decode()}\n]\n", utf8=True)
        elif self._form == "csv":
            _show.data(_csv(map(Record.of, lookups), bom=self._bom), utf8=True)

    def report(self) -> int:
        """Tell the failures, where the output does not; the exit code."""
        errors = list(dict.fromkeys(self._errors.values()))  # a refused key is told once
        if not errors:
            return 0
        if self._form == "table":
            lookups = [error for error in errors if not isinstance(error, InvalidIdError)]  # told
            for error in lookups[:_TOLD]:
                _show.message(str(error))
            if len(lookups) > _TOLD:
                _show.message(f"and {len(lookups) - _TOLD:,} more; the other formats tell them all")
        _show.message(f"{len(self._errors):,} of {len(self.ids):,} lookups failed")
        return _executions.exit_code(errors, answered=len(self._errors) < len(self.ids))


def _csv(records: Iterable[Record], *, bom: bool) -> str:
    written = io.BytesIO()
    with CSV(written, EXECUTIONS, UTC, bom=bom) as table:
        for record in records:
            table.add(record)
        table.finish()
    return written.getvalue().decode()
