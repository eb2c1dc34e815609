"""``hilos export`` of contacts: how each fared, in the executions that are named or in those of a flow.

Knows which words and which exit code an end has. Refuses to know how the file survives.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hilos_async.cli import _connection, _executions, _ids, _interrupt, _meter, _show
from hilos_async.cli._show import FAILED, INTERRUPTED, USAGE, CommandError
from hilos_async.errors import HilosError
from hilos_async.export import ExportError, export_contacts
from hilos_async.export._export import records_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Iterable
    from datetime import tzinfo
    from pathlib import Path
    from uuid import UUID

    from hilos_async.export import ContactProgress, ContactsReport
    from hilos_async.session import HilosSession


def run(options: argparse.Namespace, output: Path, zone: tzinfo) -> int:
    """Export, say how it went, and give the exit code."""
    if options.retry_errors:
        raise CommandError(
            "--retry-errors is for --ids: lists of contacts that failed are walked again anyway",
            USAGE,
        )
    ids: list[UUID] = []
    flow: UUID | None = None
    if options.flow is not None:
        [flow] = _ids.checked([options.flow], "flow")
    else:
        ids = _executions_of(options.contacts_of)
    session = _connection.connect(
        options, pace=options.pace, max_concurrency=options.max_concurrency
    ).session
    work = _Work(records_of(output))
    try:
        report = _interrupt.run(_export(session, ids, flow, options, output, zone, work))
    except ExportError as error:
        raise CommandError(str(error), FAILED) from error
    except HilosError as error:
        code = _executions.exit_code([error], answered=work.added > 0)
        raise CommandError(f"{error}\n{work.kept()}", code) from error
    except TimeoutError:
        raise CommandError(f"the time is up: {work.kept()}", FAILED) from None
    except KeyboardInterrupt:
        _show.end_line()
        raise CommandError(f"stopped: {work.kept()}", INTERRUPTED) from None
    return _told(report)


def _executions_of(texts: list[str]) -> list[UUID]:
    """The executions of the command line; ``-`` stands for those on standard input, one a line."""
    ids: list[str | UUID] = [text for text in texts if text != "-"]
    if "-" in texts:
        ids += _ids.in_file("-")
    return _ids.checked(map(str, ids))


async def _export(
    session: HilosSession,
    ids: Iterable[UUID],
    flow: UUID | None,
    options: argparse.Namespace,
    output: Path,
    zone: tzinfo,
    work: _Work,
) -> ContactsReport:
    async def executions(hilos: HilosSession) -> AsyncIterator[UUID]:
        for id in ids:
            yield id
        if flow is not None:
            async for row in hilos.list_executions(flow=flow):
                yield row.id

    async with asyncio.timeout(options.timeout), session as hilos:
        with _meter.Meter(None, hilos) as meter:

            def heard(progress: ContactProgress) -> None:
                work.hear(progress)
                meter.heard(progress)

            return await export_contacts(
                hilos,
                executions(hilos),
                output,
                refresh=options.refresh,
                tz=zone,
                bom=options.excel,
                on_progress=heard,
            )


class _Work:
    """What is known of an export under way, for its last words."""

    def __init__(self, records: Path) -> None:
        self._records = records
        self._there: int | None = None
        self.added = 0

    def hear(self, progress: ContactProgress) -> None:
        """Note what has come; the first time, tell what was there before."""
        if self._there is None and progress.there:
            _show.message(f"{progress.there:,} contacts are there already")
        self._there, self.added = progress.there, progress.done

    def kept(self) -> str:
        """How to go on."""
        return f"what has come is in {self._records.name}; the same command goes on from there"


def _told(report: ContactsReport) -> int:
    """Tell how it ended; the exit code."""
    _show.message(
        f"{report.path.name}: {report.contacts:,} contacts of {report.executions:,} executions; "
        f"{report.added:,} new in this run"
    )
    if report.cut:
        _show.message(
            f"cells cut: {report.cut:,} (Excel holds no more than 32,767 characters in one; "
            f"{report.records.name} has all of their text)"
        )
    if not report.failed:
        return 0
    _show.message(
        f"{report.failed:,} executions could not be listed to their end (`grep error "
        f"{report.records.name}` says why); the same command asks for them again"
    )
    return FAILED
