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
import msgspec

from hilos_async import _checks
from hilos_async._many.batch import Progress
from hilos_async._many.source import Source
from hilos_async._many.stream import Lookup
from hilos_async._many.summary import zone_of
from hilos_async.errors import SessionClosedError
from hilos_async.export import _tables
from hilos_async.export._columns import EXECUTIONS
from hilos_async.export._files import ExportError, locked
from hilos_async.export._records import Key, Record, id_of, key_of
from hilos_async.export._run import Run, to_its_end

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator
    from datetime import tzinfo

    from hilos_async._many.source import Ids
    from hilos_async.session import HilosSession

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
    and not among those given; they stay. ``cut`` cells of an ``.xlsx`` held a longer text than Excel
    can, and end in ``[cut: N characters]``.
    """

    path: Path
    records: Path
    total: int
    asked: int
    failed: int
    invalid: int
    others: int
    cut: int = 0

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
    bom: bool = False,
    max_concurrency: int | None = None,
    on_progress: Callable[[ExportProgress], object] | None = None,
) -> ExportReport:
    """Write what becomes of each id into a file, and go on where an earlier run of it ended.

    The suffix of ``path`` chooses: ``.ndjson`` has one JSON document per id and line, ``{"id": ...,
    "execution": {...}}`` or ``{"id": ..., "error": {"type", "message", "status"}}``, appended as they
    come. ``.csv`` and ``.xlsx`` (extra ``excel``) are made from that file, which stays beside them
    under the same name with ``.ndjson``, once it is complete: in the order of ``ids``, in one step,
    with dates in the time zone ``tz``. With ``bom``, a ``.csv`` begins with the byte order mark by
    which Excel tells UTF-8.

    Ids that are in the file are not asked again, but for failed ones with ``retry_errors`` and those
    that have not ended with ``refresh``. Killed at any moment, it loses no more than the
    ``max_concurrency`` requests that were under way. Memory: some 250 bytes for each id.
    ``on_progress`` is called before the first request and after each id; what it raises comes out.

    Raises ``ExportError`` for a file that cannot be written, is in use by another export or is no
    export, and tells how far it got; ``AuthenticationError`` when the key is refused;
    ``SessionClosedError``. What had come is kept then, as when it is cancelled. ``ValueError`` for
    another suffix, an unknown time zone, or ``bom`` for what is no ``.csv``; ``TypeError`` for ids
    that are no iterable of ids; ``ImportError`` where the extra is missing: all before anything is
    asked.
    """
    output, zone = checked(path, tz, bom, on_progress)
    cut = 0
    keys = await _keys(ids)
    _tables.check_size(output, len(keys))
    run = _Run(records_of(output), Record, keys)
    with contextlib.ExitStack() as stack:
        with run.telling(run.path):
            stack.enter_context(locked(run.path))
            stack.callback(run.close)
            await to_its_end(run.open)
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
            await to_its_end(run.records.compact)
        if output != run.path:
            with run.telling(output):
                rows = run.records.in_order(keys, also=keys)
                cut = await run.write_table(output, rows, EXECUTIONS, zone, bom=bom)
    return ExportReport(
        path=output,
        records=run.path,
        total=len(keys),
        asked=sum(isinstance(key, bytes) for key in asked),
        failed=run.records.errors_among(keys),
        invalid=sum(isinstance(key, str) for key in keys),
        others=len(run.records) - len(keys),
        cut=cut,
    )


def checked(
    path: str | os.PathLike[str], tz: tzinfo | str, bom: bool, on_progress: object
) -> tuple[Path, tzinfo]:
    """Where the output goes and in which time zone: what every export is given, checked at once."""
    _checks.callback("on_progress", on_progress)
    output, zone = checked_output(path), zone_of(tz)
    if bom and output.suffix != ".csv":
        raise ValueError(f"bom=True is for a .csv; {output.name} needs none")
    return output, zone


def checked_output(path: str | os.PathLike[str]) -> Path:
    """Where the output goes, links followed; nothing is opened.

    Raises ``ValueError`` for a suffix that names no format, ``ExportError`` for what is no file, and
    ``ImportError`` where the extra is missing.
    """
    output = Path(path).resolve()
    if output.suffix not in (RECORDS, ".csv", ".xlsx"):
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


class _Run(Run[Record]):
    """A run that asks for executions."""

    async def fetch(
        self,
        session: HilosSession,
        keys: list[Key],
        max_concurrency: int | None,
        on_progress: Callable[[ExportProgress], object] | None,
    ) -> None:
        """Append the line of each id as it comes."""
        started = anyio.current_time()
        done = failed = 0

        def tell(lookup: Lookup | None) -> None:
            if on_progress is not None:
                progress = ExportProgress(
                    done=done,
                    failed=failed,
                    total=len(keys),
                    elapsed=anyio.current_time() - started,
                    there=len(self._keys) - len(keys),
                    lookup=lookup,
                )
                _checks.ignored("on_progress", on_progress(progress))

        tell(None)
        ids: Iterator[UUID | str] = map(id_of, keys)
        async with session.stream_executions(ids, max_concurrency=max_concurrency) as lookups:
            async for lookup in lookups:
                if isinstance(lookup.error, SessionClosedError):
                    raise lookup.error  # that is no answer about the id: the next run asks
                await self.append(Record.of(lookup))
                done += 1
                failed += lookup.error is not None
                tell(lookup)
