"""What the commands write: data to standard output, messages to standard error, tables.

Knows what a terminal is and how the two streams can fail. With rich installed, a table on a
terminal is rich's. Refuses to know what stands in a table, and asyncio.
"""

from __future__ import annotations

import importlib
import io
import os
import re
import shutil
import sys
import textwrap
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Sequence

# The exit codes that `hilos --help` explains.
FAILED: Final = 1
USAGE: Final = 2
REFUSED: Final = 3
UNREACHABLE: Final = 4
UNKNOWN: Final = 5
INTERRUPTED: Final = 130  # as a shell counts it: 128 and the signal's number
_BROKEN_PIPE: Final = 141

_GAP: Final = 2
# Control characters, line separators, and what turns the direction of writing round.
_MOVES_CURSOR: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class CommandError(Exception):
    """Ends the command: a message for the user ("" for none) and an exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its header, on which side its cells stand, and what becomes of it where it is narrow.

    There it goes ``under`` another one's cells, broken into their width if it ``wraps``.
    """

    header: str
    right: bool = False
    under: str | None = None
    wraps: bool = False


def prepare() -> None:
    """Let a character that a stream's encoding lacks become a question mark, not an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def data(text: str, *, utf8: bool = False) -> None:
    """Write to standard output, now; ``utf8`` whatever the stream's encoding is.

    Raises ``CommandError`` if that fails, without a message if only the reader is gone.
    """
    stream: TextIO | None = sys.stdout
    if stream is None:  # closed by whoever started us
        return
    try:
        if utf8:
            stream.flush()
            stream.buffer.write(text.encode())
        else:
            stream.write(text)
        stream.flush()
    except BrokenPipeError as error:
        _discard(stream)
        raise CommandError("", _BROKEN_PIPE) from error
    except OSError as error:
        _discard(stream)
        raise CommandError(f"the output cannot be written: {error.strerror}", FAILED) from error


def message(text: str) -> None:
    """Tell the user something on standard error; if nobody can read it, nothing happens."""
    note("".join(_filled("hilos: ", line, sys.stderr) for line in text.splitlines()))


def note(text: str) -> None:
    """Write to standard error as it is, now; if nobody can read it, nothing happens."""
    stream: TextIO | None = sys.stderr
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        _discard(stream)


def end_line() -> None:
    """End the line in which the terminal has echoed ``^C``."""
    if is_terminal(sys.stderr):
        note("\n")


def _discard(stream: TextIO) -> None:
    # What is still in the buffer would fail again, and loudly, when Python flushes it at its end.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person watches the stream, on something that can draw."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def width() -> int:
    """The terminal's columns."""
    return shutil.get_terminal_size().columns


def has_rich() -> bool:
    """Whether rich (the extra ``cli``) is installed; the first question imports it."""
    try:
        importlib.import_module("rich")
    except ImportError:
        return False
    return True


def paragraph(label: str, text: str) -> None:
    """Print text beside a label."""
    labels = [label] + [" " * len(label)] * text.count("\n")
    lines = zip(labels, text.split("\n"), strict=True)
    data("".join(_filled(label, line, sys.stdout) for label, line in lines))


def _filled(label: str, text: str, stream: TextIO | None) -> str:
    """A label and a text, on a terminal broken between words, so that ids stay whole."""
    if not is_terminal(stream):
        return f"{label}{clean(text)}\n"
    lines = textwrap.wrap(
        label + clean(text),
        width(),
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines) + "\n"


def clean(text: str) -> str:
    """Text of the API or the user without what would move a terminal's cursor."""
    return _MOVES_CURSOR.sub("\N{REPLACEMENT CHARACTER}", text)


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: on a terminal to its width, in a pipe one whole line for each row."""
    rows = [[clean(cell) for cell in row] for row in rows]
    if not is_terminal(sys.stdout):
        data(_plain(columns, rows))
        return
    headers = [column.header for column in columns]
    needed = sum(_widths([headers, *rows])) + _GAP * (len(columns) - 1)
    if needed > width():
        columns, rows = _stacked(columns, rows)
    if has_rich():
        from hilos_async.cli import _rich

        data(_rich.table(columns, rows, _GAP))
    else:
        data(_plain(columns, rows))


def _stacked(
    columns: Sequence[Column], rows: Sequence[Sequence[str]]
) -> tuple[list[Column], list[list[str]]]:
    """The table in fewer columns, whose cells have several lines."""
    headers = [column.header for column in columns]
    widths = dict(zip(headers, _widths([headers, *rows]), strict=True))
    tops = [column for column in columns if column.under is None]
    below = {column.under: column for column in columns}

    def cell(row: dict[str, str], top: str) -> str:
        if top not in below:
            return row[top]
        text = row[below[top].header]
        return "\n".join(
            [row[top], *(textwrap.wrap(text, widths[top]) if below[top].wraps else [text])]
        )

    header, *stacked = (
        [cell(dict(zip(headers, row, strict=True)), top.header) for top in tops]
        for row in (headers, *rows)
    )
    return [replace(top, header=text) for top, text in zip(tops, header, strict=True)], stacked


def _plain(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    table_rows = [[column.header for column in columns], *rows]
    widths = _widths(table_rows)
    lines: list[str] = []
    for row in table_rows:
        for parts in zip_longest(*(cell.split("\n") for cell in row), fillvalue=""):
            cells = [
                part.rjust(size) if column.right else part.ljust(size)
                for part, size, column in zip(parts, widths, columns, strict=True)
            ]
            lines.append((" " * _GAP).join(cells).rstrip() + "\n")
    return "".join(lines)


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """The width of each column: its longest line."""
    return [
        max(len(line) for cell in column for line in cell.split("\n"))
        for column in zip(*rows, strict=True)
    ]
