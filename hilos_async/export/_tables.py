"""Executions as tables: which columns there are, and how CSV and XLSX write their cells.

Knows that people open tables in spreadsheets: what is text there must not become a formula, a number
or a date. Refuses to know where the records come from, and what becomes of the file.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import tempfile
from datetime import UTC, date, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from hilos_async.export._files import ExportError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import IO, BinaryIO, Self

    from hilos_async.export._records import Record
    from hilos_async.models import FlowExecution, User

Cell = str | int | float | datetime | None
"""A date-time is aware; ``None`` is an empty cell."""


def _user(user: User | None) -> str | None:
    if user is None:
        return None
    return user.email or " ".join(filter(None, (user.first_name, user.last_name))) or None


def _average(execution: FlowExecution) -> Cell:
    average = execution.average_completion
    return execution.avg_completion_time if average is None else average.total_seconds()


def _channel(execution: FlowExecution) -> str | None:
    channel = execution.flow.channel
    return None if channel is None else channel.name or channel.channel_id


# In the API's own words, so that people can search its documentation.
_COLUMNS: Final[dict[str, Callable[[FlowExecution], Cell]]] = {
    "status": lambda execution: str(execution.status),
    "flow_id": lambda execution: execution.flow.id,
    "flow": lambda execution: execution.flow.name,
    "flow_version": lambda execution: execution.flow_version.version_name,
    "channel": _channel,
    "execute_for": lambda execution: str(execution.execute_for),
    "num_contacts": lambda execution: execution.num_contacts,
    "completed": lambda execution: execution.completed,
    "running": lambda execution: execution.running,
    "failed": lambda execution: execution.failed,
    "expired": lambda execution: execution.expired,
    "canceled": lambda execution: execution.canceled,
    "completion_rate": lambda execution: execution.completion_rate,
    "avg_completion_seconds": _average,
    "created_on": lambda execution: execution.created_on,
    "start_on": lambda execution: execution.start_on,
    "last_run_on": lambda execution: execution.last_run_on or execution.last_run_text,
    "status_last_change_on": lambda execution: execution.status_last_change_on,
    "status_reason": lambda execution: execution.status_reason,
    "created_by": lambda execution: _user(execution.created_by),
}
HEADER: Final = ("id", *_COLUMNS, "error", "error_message")
_DATES: Final = frozenset(name for name in HEADER if name.endswith("_on"))
_NO_CELLS: Final[tuple[Cell, ...]] = (None,) * len(_COLUMNS)


def cells(record: Record) -> tuple[Cell, ...]:
    """The record as a row under ``HEADER``."""
    execution, error = record.execution, record.error
    told = (None, None) if error is None else (error.type, error.message)
    if execution is None:
        return (record.id, *_NO_CELLS, *told)
    return (record.id, *(cell(execution) for cell in _COLUMNS.values()), *told)


def zone_of(tz: tzinfo | str) -> tzinfo:
    """The time zone, or that of the name; ``ValueError`` for a name of none."""
    if isinstance(tz, tzinfo):
        return tz
    if tz == "UTC":
        return UTC  # also where the system has no database of time zones
    try:
        return ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"tz={tz!r} is no time zone; one is 'America/Mexico_City'") from error


def _in_zone(moment: datetime, zone: tzinfo) -> datetime:
    with contextlib.suppress(OverflowError, ValueError):  # the first and the last year there is
        return moment.astimezone(zone)
    return moment


class Table(Protocol):
    """A table under way: rows are added one after another, and none is kept in memory."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def add(self, record: Record) -> None:
        """Add the row of a record."""
        ...

    def finish(self) -> None:
        """Write what is left."""
        ...


# --- CSV

# What a spreadsheet takes for the beginning of a formula (OWASP's list for CSV injection).
_FORMULA: Final = tuple("=+-@\t\r\n＝＋－＠")  # noqa: RUF001 - full-width signs work in Excel, too


def inert(text: str) -> str:
    """Text that no spreadsheet runs: an apostrophe before what begins like a formula.

    White space before the sign does not make it harmless.
    """
    if text.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA):
        return f"'{text}"
    return text


class CSV:
    """UTF-8, commas, a header; date-times in ISO 8601 in the zone, text as ``inert`` leaves it."""

    def __init__(self, file: BinaryIO, zone: tzinfo) -> None:
        self._zone = zone
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        self._writer = csv.writer(self._text, lineterminator="\n")

    def __enter__(self) -> Self:
        self._writer.writerow(HEADER)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ValueError, OSError):
            self._text.detach()  # the file is its opener's

    def add(self, record: Record) -> None:
        """Add the row of a record."""
        self._writer.writerow([self._cell(cell) for cell in cells(record)])

    def _cell(self, cell: Cell) -> str | int | float | None:
        if isinstance(cell, datetime):
            return _in_zone(cell, self._zone).isoformat()
        return inert(cell) if isinstance(cell, str) else cell

    def finish(self) -> None:
        """Write what is left."""
        self._text.flush()


# --- XLSX


class _Sheet(Protocol):
    row_data_fh: IO[str]

    def write_string(self, row: int, column: int, text: str, style: object = ..., /) -> int: ...
    def write_number(self, row: int, column: int, number: float, style: object = ..., /) -> int: ...
    def write_datetime(self, row: int, column: int, day: date, style: object = ..., /) -> int: ...
    def set_column(self, first: int, last: int, width: float, /) -> int: ...
    def freeze_panes(self, row: int, column: int, /) -> None: ...
    def autofilter(self, row: int, column: int, last: int, last_column: int, /) -> int: ...


class _Book(Protocol):
    def add_worksheet(self, name: str, /) -> _Sheet: ...
    def add_format(self, properties: dict[str, object], /) -> object: ...
    def close(self) -> None: ...


_ROWS: Final = 1_048_576 - 1  # of a sheet, without the header
_FIRST_DATE: Final = datetime(1901, 1, 1)  # noqa: DTZ001 - Excel's have no zone; its 1900 is wrong
_EXACT: Final = 10**15  # Excel keeps 15 digits of a number
_WIDTHS: Final = {"id": 38.0, "flow_id": 38.0, "flow": 34.0, "error_message": 60.0}


def need_excel() -> None:
    """Raise ``ImportError`` that names the extra, if xlsxwriter is not installed."""
    try:
        importlib.import_module("xlsxwriter")
    except ImportError as error:
        raise ImportError(
            "an .xlsx file needs xlsxwriter: install the extra, pip install 'hilos-async[excel]', or "
            "write a .csv"
        ) from error


class XLSX:
    """One sheet: ids and other text as text, numbers as numbers, dates as dates in the zone.

    A cell holds no zone, so the headers of the dates name it. A date that Excel does not have, and a
    number that it would round, is text.
    """

    def __init__(self, file: BinaryIO, zone: tzinfo) -> None:
        self._zone = zone
        self._row = 0
        # Rows wait there until the end; a directory of ours is removed whatever happens.
        self._spool = tempfile.TemporaryDirectory(prefix="hilos-export-")
        options = {
            "constant_memory": True,
            "tmpdir": self._spool.name,
            "strings_to_formulas": False,
            "strings_to_numbers": False,
            "strings_to_urls": False,
        }
        self._book = cast("_Book", importlib.import_module("xlsxwriter").Workbook(file, options))
        self._sheet = self._book.add_worksheet("executions")
        self._day = self._book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        self._share = self._book.add_format({"num_format": "0.0%"})
        self._bold = self._book.add_format({"bold": True})

    def __enter__(self) -> Self:
        for column, name in enumerate(HEADER):
            header = f"{name} ({self._zone})" if name in _DATES else name
            width = _WIDTHS.get(name, 20.0 if name in _DATES else 15.0)
            self._sheet.set_column(column, column, max(width, len(header) + 2.0))
            self._sheet.write_string(0, column, header, self._bold)
        self._sheet.freeze_panes(1, 1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):  # after an error, xlsxwriter leaves it open
            self._sheet.row_data_fh.close()
        self._spool.cleanup()

    def add(self, record: Record) -> None:
        """Add the row of a record."""
        self._row += 1
        for column, (name, cell) in enumerate(zip(HEADER, cells(record), strict=True)):
            if isinstance(cell, str):
                self._sheet.write_string(self._row, column, cell)
            elif isinstance(cell, datetime):
                self._write_date(column, _in_zone(cell, self._zone))
            elif cell is not None and abs(cell) >= _EXACT:
                self._sheet.write_string(self._row, column, str(cell))
            elif cell is not None:
                style = self._share if name == "completion_rate" else None
                self._sheet.write_number(self._row, column, cell, style)

    def _write_date(self, column: int, moment: datetime) -> None:
        local = moment.replace(tzinfo=None)
        if local < _FIRST_DATE:
            self._sheet.write_string(self._row, column, moment.isoformat())
        else:
            self._sheet.write_datetime(self._row, column, local, self._day)

    def finish(self) -> None:
        """Put the workbook together."""
        self._sheet.autofilter(0, 0, self._row, len(HEADER) - 1)
        errors = importlib.import_module("xlsxwriter.exceptions")
        try:
            self._book.close()
        except errors.XlsxFileError as error:
            # It wraps what the system said of the disk.
            raise OSError(*getattr(error.args[0], "args", error.args)) from error


def check_size(path: Path, rows: int) -> None:
    """Raise ``ExportError`` if a table has more rows than its format holds."""
    if path.suffix == ".xlsx" and rows > _ROWS:
        raise ExportError(
            f"{rows:,} rows do not fit into {path}: a sheet of Excel holds {_ROWS:,}; write a .csv",
            path=path,
        )
