"""Records as tables: how CSV and XLSX write their cells.

Knows that people open tables in spreadsheets: what is text there must not become a formula, a number
or a date. Refuses to know which columns there are, where the records come from, and what becomes of the
file.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import re
import shutil
from datetime import date, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar, cast

from hilos_async._many.summary import in_zone
from hilos_async.export._files import ExportError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import IO, BinaryIO, Self

    from hilos_async._api.columns import Cell
    from hilos_async.export._columns import Columns

R = TypeVar("R")
R_contra = TypeVar("R_contra", contravariant=True)


class Table(Protocol[R_contra]):
    """A table under way: rows are added one after another, and none is kept in memory.

    ``cut`` counts the cells that did not hold their whole text.
    """

    cut: int

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def add(self, record: R_contra) -> None:
        """Add the row of a record."""
        ...

    def finish(self) -> None:
        """Write what is left."""
        ...


# --- CSV

# Where a cell may begin: at the beginning, and after what a reader takes for the end of a cell or of a
# line. Excel separates at ; in half the world, and one that does so does not know our quotes either.
_BEGINS: Final = r"(?:\A|(?<=[,;\t\r\n\v\f\x1c-\x1e\x85\u2028\u2029]))"
# What a spreadsheet takes for the beginning of a formula (OWASP's list for CSV injection); white space
# and quotes before the sign do not make it harmless.
_FORMULA: Final = re.compile(
    # Full-width signs work in Excel, too.
    _BEGINS + r"""(?=[\s"]*[=+\-@＝＋－＠])|\A(?=[\t\r\n])"""  # noqa: RUF001
)
# What a spreadsheet reads as a number, a time or a date, and then shows as something else.
_NUMERIC: Final = re.compile(r"\s*[.,]?\d[\d\s.,:/%-]*(?:[eE][+-]?\d+)?\s*", re.ASCII)
_UNCHANGED: Final = re.compile(r"0|[1-9]\d{0,14}|\d{4}-\d\d-\d\d", re.ASCII)


def inert(text: str) -> str:
    """Text that stays text in a spreadsheet, whether it separates cells at commas, semicolons or tabs.

    An apostrophe goes before whatever begins like a formula, at the beginning of the text and after
    each separator in it, and before a text that is a number, a time or a date which a spreadsheet
    would change: leading zeros, more than 15 digits, ``1e5``, ``24/7``. A plain whole number and a
    date as ISO 8601 writes it stay as they are.
    """
    if _NUMERIC.fullmatch(text) and not _UNCHANGED.fullmatch(text):
        return f"'{text}"
    return _FORMULA.sub("'", text)


class CSV(Generic[R]):
    """UTF-8, commas, a header; date-times in ISO 8601 in the zone, text as ``inert`` leaves it.

    Excel takes it for UTF-8 only if it begins with a byte order mark, ``bom``.
    """

    cut = 0

    def __init__(
        self, file: BinaryIO, columns: Columns[R], zone: tzinfo, *, bom: bool = False
    ) -> None:
        self._columns = columns
        self._zone = zone
        self._text = io.TextIOWrapper(
            file, encoding="utf-8-sig" if bom else "utf-8", newline="", write_through=True
        )
        # With its own end of a line, a csv older than 3.11.9 and 3.12.3 would not quote a lone CR.
        self._writer = csv.writer(self, lineterminator="\r\n")

    def write(self, line: str) -> None:
        """Write a line as the csv module has made it."""
        self._text.write(line.removesuffix("\r\n") + "\n")

    def __enter__(self) -> Self:
        self._writer.writerow([inert(name) for name in self._columns.header])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ValueError, OSError):
            self._text.detach()  # the file is its opener's

    def add(self, record: R) -> None:
        """Add the row of a record."""
        self._writer.writerow([self._cell(cell) for cell in self._columns.cells(record)])

    def _cell(self, cell: Cell) -> str | int | float | None:
        if isinstance(cell, datetime):
            return in_zone(cell, self._zone).isoformat()
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
_LONGEST: Final = 32_767  # units of UTF-16 in a cell


def need_excel() -> None:
    """Raise ``ImportError`` that names the extra, if xlsxwriter is not installed."""
    try:
        importlib.import_module("xlsxwriter")
    except ImportError as error:
        from hilos_async._extras import install_command

        raise ImportError(
            f"an .xlsx file needs xlsxwriter: install the extra, {install_command('excel')}, or "
            "write a .csv"
        ) from error


class XLSX(Generic[R]):
    """One sheet: ids and other text as text, numbers as numbers, dates as dates in the zone.

    A cell holds no zone, so the headers of the dates name it. A date that Excel does not have, and a
    number that it would round, is text. A text longer than a cell can be is cut, and its end says so.
    """

    def __init__(self, file: BinaryIO, columns: Columns[R], zone: tzinfo, spool: Path) -> None:
        self._columns = columns
        self._zone = zone
        self._row = 0
        self.cut = 0
        # Rows wait there until the end. It is where the table will be: a full disk is that one's.
        self._spool = spool
        shutil.rmtree(spool, ignore_errors=True)  # what a kill has left
        spool.mkdir()
        options = {
            "constant_memory": True,
            "tmpdir": str(spool),
            "strings_to_formulas": False,
            "strings_to_numbers": False,
            "strings_to_urls": False,
        }
        self._book = cast("_Book", importlib.import_module("xlsxwriter").Workbook(file, options))
        self._sheet = self._book.add_worksheet(columns.sheet)
        self._day = self._book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        self._share = self._book.add_format({"num_format": "0.0%"})
        self._bold = self._book.add_format({"bold": True})

    def __enter__(self) -> Self:
        for column, name in enumerate(self._columns.header):
            is_date = name in self._columns.dates
            header = f"{name} ({self._zone})" if is_date else self._fitting(name)
            width = self._columns.widths.get(name, 20.0 if is_date else 15.0)
            self._sheet.set_column(column, column, min(80.0, max(width, len(header) + 2.0)))
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
        shutil.rmtree(self._spool, ignore_errors=True)

    def add(self, record: R) -> None:
        """Add the row of a record."""
        self._row += 1
        named = zip(self._columns.header, self._columns.cells(record), strict=True)
        for column, (name, cell) in enumerate(named):
            if isinstance(cell, str):
                self._sheet.write_string(self._row, column, self._fitting(cell))
            elif isinstance(cell, datetime):
                self._write_date(column, in_zone(cell, self._zone))
            elif cell is not None and abs(cell) >= _EXACT:
                self._sheet.write_string(self._row, column, str(cell))
            elif cell is not None:
                style = self._share if name == "completion_rate" else None
                self._sheet.write_number(self._row, column, cell, style)

    def _fitting(self, text: str) -> str:
        """The text, or as much of it as a cell holds with a word on how much it was."""
        if len(text) <= _LONGEST // 2:
            return text
        units = text.encode("utf-16-le", "surrogatepass")
        if len(units) <= 2 * _LONGEST:
            return text
        self.cut += 1
        mark = f"… [cut: {len(text):,} characters]"
        return units[: 2 * (_LONGEST - len(mark))].decode("utf-16-le", "ignore") + mark

    def _write_date(self, column: int, moment: datetime) -> None:
        local = moment.replace(tzinfo=None)
        if local < _FIRST_DATE:
            self._sheet.write_string(self._row, column, moment.isoformat())
        else:
            self._sheet.write_datetime(self._row, column, local, self._day)

    def finish(self) -> None:
        """Put the workbook together."""
        self._sheet.autofilter(0, 0, self._row, len(self._columns.header) - 1)
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
