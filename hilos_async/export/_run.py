"""One run of an export: its file, what is in it, and the table that is made of it at the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import anyio
import anyio.lowlevel

from hilos_async.export import _records, _tables
from hilos_async.export._files import ExportError, replacing
from hilos_async.export._records import Records

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable
    from datetime import tzinfo
    from pathlib import Path
    from typing import BinaryIO

    from hilos_async.export._columns import Columns
    from hilos_async.export._records import Key

T = TypeVar("T")
R = TypeVar("R", _records.Record, _records.ContactRecord)

# Seconds between two fsyncs: a kill needs none, and after a power cut so much is asked again.
_SYNCED: Final = 2.0
_PART: Final = 200  # rows of a table between two moments at which others may run, or cancel it

_log = logging.getLogger(__name__)


async def to_its_end(work: Callable[[], T]) -> T:
    """Run work on a file in a thread, and go on only once it has ended, cancelled or not.

    A thread cannot be stopped. Whoever left it behind would give the file's lock away while it still
    writes. An anyio shield alone is not enough: it holds against anyio's own scopes. And the thread
    is a future, not a task: ``asyncio.run`` cancels every task at a second Ctrl-C.
    """
    cancelled: asyncio.CancelledError | None = None
    thread = asyncio.get_running_loop().run_in_executor(None, work)
    with anyio.CancelScope(shield=True):
        while not thread.done():
            try:
                await asyncio.wait([thread])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        thread.exception()  # so that nobody misses it
        raise cancelled
    return thread.result()


class Run(Generic[R]):
    """One run of an export: its file, and how far it is.

    ``keys`` are what it is to have lines for, ``noun`` is what they are called.
    """

    records: Records[R]

    def __init__(self, path: Path, kind: type[R], keys: Collection[Key], noun: str = "ids") -> None:
        self.path = path
        self._kind: type[R] = kind
        self._keys = keys
        self._noun = noun
        self._is_open = False
        self._synced = anyio.current_time()

    def open(self) -> None:
        """Read the file, and open it for appending."""
        self.records = Records(self.path, self._kind)
        self._is_open = True

    def close(self) -> None:
        """Close the file, all of it on the disk."""
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
                f"{problem}. {kept:,} of {total:,} {self._noun} are in {self.path.name}, as whole "
                "lines; once it can be written, the same export goes on from there",
                path=path,
                kept=kept,
                total=total,
            ) from error

    async def append(self, record: R) -> None:
        """Add a line at once, and every few seconds see to it that all of them are on the disk.

        Nothing may wait between taking a result and writing it: what is under way then, and no more, is
        what a kill costs.
        """
        with self.telling(self.path):
            self.records.append(record)
            if anyio.current_time() - self._synced > _SYNCED:
                await to_its_end(self.records.sync)
                self._synced = anyio.current_time()

    async def write_table(
        self, output: Path, rows: Iterable[R], columns: Columns[R], zone: tzinfo, *, bom: bool
    ) -> int:
        """Make the table of these records, in one step; how many cells did not hold their text."""
        _tables.check_size(output, len(self.records))
        with replacing(output) as file, _table(output, file, columns, zone, bom=bom) as table:
            for number, record in enumerate(rows):
                table.add(record)
                if number % _PART == 0:
                    await anyio.lowlevel.checkpoint()
            await to_its_end(table.finish)
        if table.cut:
            _log.warning(
                "%s: cells cut: %d (Excel holds no more than 32,767 characters in one; %s has all of "
                "their text)",
                output.name,
                table.cut,
                self.path.name,
                extra={"hilos_event": "cut", "hilos_cells": table.cut},
            )
        return table.cut


def _table(
    output: Path, file: BinaryIO, columns: Columns[R], zone: tzinfo, *, bom: bool
) -> _tables.Table[R]:
    if output.suffix == ".csv":
        return _tables.CSV(file, columns, zone, bom=bom)
    return _tables.XLSX(file, columns, zone, output.with_name(f".{output.name}.hilos-spool"))
