"""The export itself: which ids are still to be asked, every answer a line at once, a table at the end.

Knows the order of the steps, and how to say how far it got. Refuses to know how a line or a table is
written.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec

from hilos_async._many.batch import Progress
from hilos_async._many.source import Source
from hilos_async._many.stream import Lookup
from hilos_async.errors import SessionClosedError
from hilos_async.export import _tables
from hilos_async.export._files import ExportError, locked, replacing
from hilos_async.export._records import Key, Records, id_of, key_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Iterator
    from datetime import tzinfo
    from typing import BinaryIO

    from hilos_async._many.source import Ids
    from hilos_async.session import HilosSession

# Seconds between two fsyncs: a kill needs none, and after a power cut so much is asked again.
_SYNCED: Final = 2.0
_PART: Final = 200  # rows of a table between two moments at which others may run, or cancel it
_TABLES: Final[dict[str, Callable[[BinaryIO, tzinfo], _tables.Table]]] = {
    ".csv": _tables.CSV,
    ".xlsx": _tables.XLSX,
}
RECORDS: Final = ".ndjson"


class ExportProgress(Progress, frozen=True, kw_only=True):
    """How far an export is; the counts are those of the ids that this run asks for.

    ``there`` ids were in the file before and are not asked again. ``lookup`` is what has just come,
    ``None`` the first time, before anything is asked.
    """

    there: int
    lookup: Lookup | None = None


class ExportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an export has done; true if every id has an execution.

    ``path`` was written and ``records`` is its NDJSON file (the same, unless a table was asked for).
    Of ``total`` ids, each counted once, ``asked`` were asked in this run and ``failed`` have ended in
    an error, in this run or before; ``invalid`` of these are no ids. ``others`` ids were in the file
    and not among those given; they stay.
    """

    path: Path
    records: Path
    total: int
    asked: int
    failed: int
    invalid: int
    others: int

    def __bool__(self) -> bool:
        return not self.failed


async def export_executions(
    session: HilosSession,
    ids: Ids,
    path: str | os.PathLike[str],
    *,
    retry_errors: bool = False,
    refresh: bool = False,
    tz: tzinfo | str = "UTC",
    max_concurrency: int | None = None,
    on_progress: Callable[[ExportProgress], object] | None = None,
) -> ExportReport:
    """Write what becomes of each id into a file, and go on where an earlier run of it ended.

    The suffix of ``path`` chooses: ``.ndjson`` has one JSON document per id and line, ``{"id": ...,
    "execution": {...}}`` or ``{"id": ..., "error": {"type", "message", "status"}}``, appended as they
    come. ``.csv`` and ``.xlsx`` (extra ``excel``) are made from that file, which stays beside them
    under the same name with ``.ndjson``, once it is complete: in the order of ``ids``, in one step,
    with dates in the time zone ``tz``.

    Ids that are in the file are not asked again, but for failed ones with ``retry_errors`` and those
    that have not ended with ``refresh``. Killed at any moment, it loses no more than the
    ``max_concurrency`` requests that were under way. Memory: some 250 bytes for each id.
    ``on_progress`` is called before the first request and after each id; what it raises comes out.

    Raises ``ExportError`` for a file that cannot be written, is in use by another export or is no
    export, and tells how far it got; ``AuthenticationError`` when the key is refused;
    ``SessionClosedError``. What had come is kept then, as when it is cancelled. ``ValueError`` for
    another suffix or an unknown time zone, ``TypeError`` for ids that are no iterable of ids, and
    ``ImportError`` where the extra is missing, all before anything is asked.
    """
    output = checked_output(path)
    zone = _tables.zone_of(tz)
    keys = await _keys(ids)
    _tables.check_size(output, len(keys))
    run = _Run(records_of(output), keys)
    with contextlib.ExitStack() as stack:
        with run.telling(run.path):
            stack.enter_context(locked(run.path))
            stack.callback(run.close)
            await anyio.to_thread.run_sync(run.open)
        asked = [
            key
            for key in keys
            if not run.records.is_settled(key, retry_errors=retry_errors, refresh=refresh)
        ]
        try:
            await run.fetch(session, asked, max_concurrency, on_progress)
        finally:
            with run.telling(run.path):
                run.close()
        with run.telling(run.path):
            await anyio.to_thread.run_sync(run.records.compact)
        if output != run.path:
            with run.telling(output):
                await run.write_table(output, zone)
    return ExportReport(
        path=output,
        records=run.path,
        total=len(keys),
        asked=sum(isinstance(key, bytes) for key in asked),
        failed=run.records.errors_among(keys),
        invalid=sum(isinstance(key, str) for key in keys),
        others=len(run.records) - len(keys),
    )


def checked_output(path: str | os.PathLike[str]) -> Path:
    """Where the output goes, links followed; nothing is opened.

    Raises ``ValueError`` for a suffix that names no format, ``ExportError`` for what is no file, and
    ``ImportError`` where the extra is missing.
    """
    output = Path(path).resolve()
    if output.suffix not in (RECORDS, *_TABLES):
        raise ValueError(f"{str(path)!r} names no format: let it end in .ndjson, .csv or .xlsx")
    if output.exists() and not output.is_file():
        raise ExportError(f"{output} is no regular file", path=output)
    if output.suffix == ".xlsx":
        _tables.need_excel()
    return output


def records_of(output: Path) -> Path:
    """The NDJSON file of an output: beside it under the same name, or itself."""
    return output.with_suffix(RECORDS)


async def _keys(ids: Ids) -> dict[Key, None]:
    """The ids, each once, in their order."""
    return {key_of(given): None for given in await Source(ids).all()}


class _Run:
    """One run of an export: its file, and how far it is."""

    records: Records

    def __init__(self, path: Path, keys: dict[Key, None]) -> None:
        self.path = path
        self._keys = keys
        self._is_open = False

    def open(self) -> None:
        self.records = Records(self.path)
        self._is_open = True

    def close(self) -> None:
        if self._is_open:
            self.records.close()

    @contextlib.contextmanager
    def telling(self, path: Path) -> Generator[None, None, None]:
        """Make of an error of the system one that says which file it was and how far the export is."""
        try:
            yield
        except OSError as error:
            problem = f"{path} cannot be written: {error.strerror or error}"
            if not self._is_open:
                raise ExportError(problem, path=path) from error
            kept, total = sum(key in self.records for key in self._keys), len(self._keys)
            raise ExportError(
                f"{problem}. {kept:,} of {total:,} ids are in {self.path.name}, as whole lines; once it "
                "can be written, the same export goes on from there",
                path=path,
                kept=kept,
                total=total,
            ) from error

    async def fetch(
        self,
        session: HilosSession,
        keys: list[Key],
        max_concurrency: int | None,
        on_progress: Callable[[ExportProgress], object] | None,
    ) -> None:
        """Append the line of each id as it comes."""
        started = synced = anyio.current_time()
        done = failed = 0

        def tell(lookup: Lookup | None) -> None:
            if on_progress is not None:
                on_progress(
                    ExportProgress(
                        done=done,
                        failed=failed,
                        total=len(keys),
                        elapsed=anyio.current_time() - started,
                        there=len(self._keys) - len(keys),
                        lookup=lookup,
                    )
                )

        tell(None)
        ids: Iterator[UUID | str] = map(id_of, keys)
        async with session.stream_executions(ids, max_concurrency=max_concurrency) as lookups:
            async for lookup in lookups:
                if isinstance(lookup.error, SessionClosedError):
                    raise lookup.error  # that is no answer about the id: the next run asks
                # Nothing may wait between taking a result and writing it: what is under way then, and
                # no more, is what a kill costs.
                with self.telling(self.path):
                    self.records.append(lookup)
                done += 1
                failed += lookup.error is not None
                tell(lookup)
                if anyio.current_time() - synced > _SYNCED:
                    with self.telling(self.path):
                        await anyio.to_thread.run_sync(self.records.sync)
                    synced = anyio.current_time()

    async def write_table(self, output: Path, zone: tzinfo) -> None:
        """Make the table from the records, in one step."""
        _tables.check_size(output, len(self.records))
        with replacing(output) as file, _TABLES[output.suffix](file, zone) as table:
            for number, record in enumerate(self.records.in_order(self._keys, also=self._keys)):
                table.add(record)
                if number % _PART == 0:
                    await anyio.lowlevel.checkpoint()
            await anyio.to_thread.run_sync(table.finish)
