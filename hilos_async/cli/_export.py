"""``hilos export``: an export as a command that a person or a cron job runs again until it is done.

Knows which words and which exit code an end has. Refuses to know how the file survives: that is
``hilos_async.export``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from hilos_async._many.summary import zone_of
from hilos_async.cli import (
    _connection,
    _executions,
    _export_contacts,
    _ids,
    _interrupt,
    _meter,
    _show,
)
from hilos_async.cli._show import FAILED, INTERRUPTED, REFUSED, UNREACHABLE, USAGE, CommandError
from hilos_async.errors import AuthenticationError
from hilos_async.export import ExportError, export_executions
from hilos_async.export._export import checked_output, records_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable
    from datetime import tzinfo
    from uuid import UUID

    from hilos_async.export import ExportProgress, ExportReport
    from hilos_async.session import HilosSession

SUMMARY = "write what becomes of many ids to a file, and go on after a crash"
DESCRIPTION = """\
Look up the executions of a file of ids and write each as a line of JSON as it comes: {"id",
"execution"}, or {"id", "error"} for a lookup that failed or a line that is no id. Stopped in any way,
the same command goes on where it was; ids that are in the file are not asked again. A .csv or .xlsx is
made at the end from the .ndjson file, which stays beside it. With --contacts-of or --flow, the lines are
contacts: how each fared, and what it answered."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    what = parser.add_mutually_exclusive_group(required=True)
    _ids.configure(what)
    what.add_argument(
        "--contacts-of",
        nargs="+",
        metavar="ID",
        help="the contacts of these executions, each with its outcome and answers; - is standard input",
    )
    what.add_argument(
        "--flow", metavar="ID", help="the contacts of all executions of this flow, in the same way"
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="the file to write: OUT.ndjson, OUT.csv or OUT.xlsx (extra: excel)",
    )
    parser.add_argument(
        "--retry-errors", action="store_true", help="ask again for ids whose lookup has failed"
    )
    parser.add_argument(
        "--refresh",
        action="store_true",
        help="ask again for executions that had not ended; of contacts, for all",
    )
    parser.add_argument(
        "--tz",
        default="UTC",
        metavar="ZONE",
        help="time zone of the dates in .csv and .xlsx, e.g. America/Mexico_City (default: UTC)",
    )
    parser.add_argument(
        "--excel",
        action="store_true",
        help="begin a .csv with a byte order mark, without which Excel takes its accents for others "
        "(an .xlsx needs none)",
    )
    _connection.configure_pace(parser)


def run(options: argparse.Namespace) -> int:
    """Export, say how it went, and give the exit code."""
    output, zone = _checked(options)
    if options.file is None:
        return _export_contacts.run(options, output, zone)
    session = _connection.connect(
        options, pace=options.pace, max_concurrency=options.max_concurrency
    ).session
    work = _Work(records_of(output))
    ids: Iterable[UUID | str] = _ids.in_file(options.file)
    if not Path(options.file).is_file():
        ids = list(ids)  # here and not in the loop, where Ctrl-C would wait for the next line
    try:
        report = _interrupt.run(_export(session, ids, options, output, zone, work))
    except ExportError as error:
        raise CommandError(str(error), FAILED) from error
    except AuthenticationError as error:
        raise CommandError(f"{error}\n{work.kept()}", REFUSED) from error
    except TimeoutError:
        raise CommandError(f"the time is up: {work.kept()}", FAILED) from None
    except KeyboardInterrupt:
        _show.end_line()
        raise CommandError(f"stopped: {work.kept()}", INTERRUPTED) from None
    return work.told(report)


def _checked(options: argparse.Namespace) -> tuple[Path, tzinfo]:
    """The output and the time zone; ``CommandError`` for what cannot work, before anything is sent."""
    try:
        output, zone = checked_output(options.output), zone_of(options.tz)
    except ExportError as error:
        raise CommandError(str(error), FAILED) from error
    except (ValueError, ImportError) as error:
        raise CommandError(str(error), USAGE) from error
    if options.excel and output.suffix != ".csv":
        raise CommandError(f"--excel is for a .csv; {output.name} needs none", USAGE)
    if options.file not in (None, "-") and Path(options.file).resolve() in (
        output,
        records_of(output),
    ):
        raise CommandError(f"{options.file} holds the ids: choose another output", USAGE)
    return output, zone


async def _export(
    session: HilosSession,
    ids: Iterable[UUID | str],
    options: argparse.Namespace,
    output: Path,
    zone: tzinfo,
    work: _Work,
) -> ExportReport:
    async with asyncio.timeout(options.timeout), session as hilos:
        with _meter.Meter(None, hilos) as meter:

            def heard(progress: ExportProgress) -> None:
                work.hear(progress)
                meter.heard(progress)

            return await export_executions(
                hilos,
                ids,
                output,
                retry_errors=options.retry_errors,
                refresh=options.refresh,
                tz=zone,
                bom=options.excel,
                on_progress=heard,
            )


class _Work:
    """What is known of an export under way, for its last words."""

    def __init__(self, records: Path) -> None:
        self._records = records
        self._there = self._done = self._total = 0
        self._is_begun = False
        self._errors: Counter[str] = Counter()
        self._answered = False

    def hear(self, progress: ExportProgress) -> None:
        """Note what has come; the first time, tell what was there before."""
        self._is_begun = True
        self._there, self._done = progress.there, progress.done
        self._total = progress.there + (progress.total or 0)
        lookup = progress.lookup
        if lookup is None:
            if progress.there:
                _show.message(f"{self._there:,} of {self._total:,} ids are there already")
        elif lookup.error is None:
            self._answered = True
        else:
            self._errors[type(lookup.error).__name__] += 1
            self._answered |= _executions.is_sensible(lookup.error)

    def kept(self) -> str:
        """How far it got, and how to go on."""
        if not self._is_begun:
            return (
                f"nothing has been asked yet; what is in {self._records.name} stays, and the same "
                "command goes on from there"
            )
        kept = self._there + self._done
        return (
            f"{kept:,} of {self._total:,} ids are in {self._records.name}; the same command goes on "
            "from there"
        )

    def told(self, report: ExportReport) -> int:
        """Tell how it ended; the exit code."""
        words = (
            f"{report.path.name}: {report.total:,} ids, {report.total - report.failed:,} fetched"
        )
        if report.failed:
            words += f", {report.failed:,} failed"
        if self._errors:
            words += (
                f" (now {', '.join(f'{n:,} {kind}' for kind, n in self._errors.most_common())})"
            )
        _show.message(f"{words}; {report.asked:,} asked in this run")
        if report.cut:
            _show.message(
                f"cells cut: {report.cut:,} (Excel holds no more than 32,767 characters in one; "
                f"{self._records.name} has all of their text)"
            )
        if report.failed > report.invalid:
            _show.message("--retry-errors asks the failed ones again")
        if report.others:
            _show.message(f"ids that only {self._records.name} has stay in it: {report.others:,}")
        if not report.failed:
            return 0
        return FAILED if self._answered or not report.asked else UNREACHABLE
