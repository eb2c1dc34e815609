"""The export of contacts: the lists of executions, each row a line at once, a table at the end.

Knows which lists are still to be walked. A list that was not walked to its end is walked again, and the
rows of it that are there already are not written twice.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from uuid import UUID

import anyio
import msgspec

from hilos_async import _checks
from hilos_async._many.batch import Progress
from hilos_async._many.source import Source
from hilos_async.errors import AuthenticationError, HilosError, SessionClosedError
from hilos_async.export import _columns
from hilos_async.export._export import checked, records_of
from hilos_async.export._files import locked
from hilos_async.export._records import ContactRecord, Key, note_of
from hilos_async.export._run import Run, to_its_end

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator
    from datetime import tzinfo
    from pathlib import Path

    from hilos_async._many.source import Ids
    from hilos_async.models import ExecutionContact
    from hilos_async.session import HilosSession


class ContactProgress(Progress, frozen=True, kw_only=True):
    """How far an export of contacts is: ``done`` rows have come in this run, ``failed`` lists have ended
    in an error.

    ``there`` contacts were in the file before. ``total`` is the number of rows to come, ``None`` as long
    as some list has not been asked for.
    """

    there: int


class ContactsReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an export of contacts has done; true if each list was walked to its end.

    ``path`` was written and ``records`` is its NDJSON file (the same, unless a table was asked for).
    It holds ``contacts``, ``added`` of them new in this run, of ``executions`` whose lists were asked
    for; ``failed`` of these lists have ended in an error. ``cut`` is that of ``ExportReport``.
    """

    path: Path
    records: Path
    executions: int
    contacts: int
    added: int
    failed: int
    cut: int = 0

    def __bool__(self) -> bool:
        return not self.failed


async def export_contacts(
    session: HilosSession,
    executions: Ids,
    path: str | os.PathLike[str],
    *,
    refresh: bool = False,
    tz: tzinfo | str = "UTC",
    bom: bool = False,
    on_progress: Callable[[ContactProgress], object] | None = None,
) -> ContactsReport:
    """Write how each contact of these executions fared into a file; go on where an earlier run ended.

    The suffix of ``path`` chooses, as in ``export_executions``. ``.ndjson`` has a line for each contact,
    ``{"id": ..., "execution_id": ..., "contact": {...}}``, and one for each execution whose list has
    been walked to its end. A table has a row for each contact: its outcome, who it is, and a column for
    each key of ``meta``, which holds the answers that a flow saves.

    A list that is there to its end is not asked for again, but with ``refresh``; one that broke off, or
    ended in an error, is walked again, and no contact is written twice. Killed at any moment, it loses
    no more than what was under way. Memory: some 250 bytes for each contact.

    Raises ``InvalidIdError`` for an id that is none, before any request; otherwise what
    ``export_executions`` does.
    """
    output, zone = checked(path, tz, bom, on_progress)
    ids = list(dict.fromkeys([_checks.parse_id(given) for given in await Source(executions).all()]))
    run = _Run(records_of(output), ids)
    cut = 0
    with contextlib.ExitStack() as stack:
        with run.telling(run.path):
            stack.enter_context(locked(run.path))
            stack.callback(run.close)
            await to_its_end(run.open)
        lists = [id for id in ids if refresh or not run.is_walked(id)]
        try:
            await run.fetch(session, lists, refresh, on_progress)
        finally:
            with run.telling(run.path):
                run.close()
        with run.telling(run.path):
            await to_its_end(run.records.compact)
        if output != run.path:
            with run.telling(output):
                columns = _columns.contacts(run.rows())
                cut = await run.write_table(output, run.rows(), columns, zone, bom=bom)
    marks = sum(isinstance(key, str) for key in run.records)
    return ContactsReport(
        path=output,
        records=run.path,
        executions=len(ids),
        contacts=len(run.records) - marks,
        added=run.added,
        failed=run.records.errors_among(run.marks),
        cut=cut,
    )


def _mark(execution: UUID) -> str:
    """The id of the line that tells how the list of an execution has ended: no UUID, so no contact's."""
    return f"contacts of {execution}"


class _Run(Run[ContactRecord]):
    """A run that walks lists of contacts."""

    def __init__(self, path: Path, executions: list[UUID]) -> None:
        self.marks: dict[Key, None] = {_mark(id): None for id in executions}
        super().__init__(path, ContactRecord, self.marks, "lists of contacts")
        self.added = 0

    def is_walked(self, execution: UUID) -> bool:
        """Whether all contacts of an execution are in the file."""
        mark = _mark(execution)
        return mark in self.records and not self.records.is_error(mark)

    def rows(self) -> Iterator[ContactRecord]:
        """What a table has a row for."""
        for record in self.records.in_order((), also=()):
            if record.walked is None:
                yield record

    async def fetch(
        self,
        session: HilosSession,
        executions: list[UUID],
        refresh: bool,
        on_progress: Callable[[ContactProgress], object] | None,
    ) -> None:
        """Append the line of each contact as its page comes."""
        started = anyio.current_time()
        there = sum(isinstance(key, bytes) for key in self.records)
        done = failed = 0
        total: int | None = None

        def tell() -> None:
            if on_progress is not None:
                elapsed = anyio.current_time() - started
                progress = ContactProgress(
                    done=done, failed=failed, total=total, elapsed=elapsed, there=there
                )
                _checks.ignored("on_progress", on_progress(progress))

        tell()
        # Only the attempts of a page are bounded: waiting for the pace must not end a list.
        patient = session.with_options(timeout=None)
        for number, execution in enumerate(executions, 1):
            before = done
            try:
                async for page in patient.list_execution_contacts(execution=execution).pages():
                    if number == len(executions):
                        total = before + page.count
                    for row in page.results:
                        await self._keep(execution, row, refresh)
                    done += len(page.results)
                    tell()
            except (AuthenticationError, SessionClosedError):
                raise
            except HilosError as error:
                failed += 1
                await self.append(ContactRecord(id=_mark(execution), error=note_of(error)))
                tell()
            else:
                await self.append(ContactRecord(id=_mark(execution), walked=done - before))

    async def _keep(self, execution: UUID, row: ExecutionContact, refresh: bool) -> None:
        is_new = row.id.bytes not in self.records
        if is_new or refresh:
            record = ContactRecord(id=str(row.id), execution_id=str(execution), contact=row)
            await self.append(record)
        self.added += is_new
