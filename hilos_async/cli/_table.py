"""Tables that fit their terminal: one line a row, whatever the width.

Where there is too little room, ids get short, names are cut, and the columns that matter least are
left out. In a pipe nothing is. Refuses to know what stands in a table; with rich installed, a table on
a terminal is rich's.
"""

from __future__ import annotations

import sys
import textwrap
import unicodedata
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from hilos_async.cli import _show

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

GAP: Final = 2


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its header, on which side its cells stand, and what it gives where room is short.

    First ``shorten`` makes other cells of all of its cells. Then they are cut, down to ``least``
    columns of the terminal. Last it goes, if it has a ``drop``: the highest first. A ``bar`` is drawn
    on terminals alone.
    """

    header: str
    right: bool = False
    shorten: Callable[[Sequence[str]], Sequence[str]] | None = None
    least: int | None = None
    drop: int = 0
    bar: bool = False


def show(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    legend: Sequence[tuple[str, str]] = (),
) -> None:
    """Print a table, and below it on a terminal what each mark of a bar stands for."""
    rows = [[_show.clean(cell) for cell in row] for row in rows]
    if not _show.is_terminal(sys.stdout):
        kept = [at for at, column in enumerate(columns) if not column.bar]
        columns, rows = [columns[at] for at in kept], [[row[at] for at in kept] for row in rows]
        _show.data(_plain(columns, rows))
        return
    columns, rows = fitted(columns, rows, _show.width())
    if _show.has_rich():
        from hilos_async.cli import _rich

        _show.data(_rich.table(columns, rows, GAP))
        legend = [(_rich.mark(mark), word) for mark, word in legend]
    else:
        _show.data(_plain(columns, rows))
    if legend and any(column.bar for column in columns):
        _show.data(_explained(legend))


def _explained(legend: Sequence[tuple[str, str]]) -> str:
    """The marks and their words; a line ends between two of them."""
    glue = "\N{NO-BREAK SPACE}"
    words = "  ".join(f"{mark} {word}".replace(" ", glue) for mark, word in legend)
    return "\n".join(textwrap.wrap(words, _show.width())).replace(glue, " ") + "\n"


def fitted(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int
) -> tuple[list[Column], list[list[str]]]:
    """The columns that there is room for, and what their cells have room for."""
    cells = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in columns]
    if _sum(_widths(columns, cells)) > room:
        cells = [
            list(column.shorten(those)) if column.shorten else those
            for column, those in zip(columns, cells, strict=True)
        ]
    widths = fit(columns, _widths(columns, cells), room)
    shown = [[cut(cell, widths[at]) for cell in cells[at]] for at in widths]
    headers = [cut(columns[at].header, width) for at, width in widths.items()]
    kept = [replace(columns[at], header=text) for at, text in zip(widths, headers, strict=True)]
    return kept, [list(row) for row in zip(*shown, strict=True)]


def fit(columns: Sequence[Column], widths: Sequence[int], room: int) -> dict[int, int]:
    """Which columns there is room for, by their places, and how wide each may be."""
    left = dict(enumerate(widths))

    def to_give(at: int) -> int:
        least = columns[at].least
        return 0 if least is None else max(0, left[at] - least)

    while (missing := _sum(left.values()) - room) > 0:
        last = max(left, key=lambda at: columns[at].drop)
        if sum(map(to_give, left)) < missing and columns[last].drop and len(left) > 1:
            del left[last]
            continue
        for _ in range(missing):
            widest = max(left, key=to_give)
            if not to_give(widest):
                break  # narrower than anything that is of use
            left[widest] -= 1
        break
    return left


def _sum(widths: Collection[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _widths(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> list[int]:
    """The width of each column: its longest cell or its header."""
    return [
        max(map(width_of, (column.header, *those)))
        for column, those in zip(columns, cells, strict=True)
    ]


def width_of(text: str) -> int:
    """How many columns of a terminal the text takes, or a little more."""
    if text.isascii():
        return len(text)
    return sum(_width_of_one(character) for character in text)


def _width_of_one(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def cut(text: str, width: int) -> str:
    """The text, or as much of its beginning as fits before an ellipsis."""
    if width_of(text) <= width:
        return text
    kept = ""
    for character in text:
        if width_of(kept + character) > width - 1:
            break
        kept += character
    return f"{kept}…"


def _plain(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    widths = _widths(columns, list(zip(*rows, strict=True)) or [()] * len(columns))
    lines: list[str] = []
    for row in ([column.header for column in columns], *rows):
        padded: list[str] = []
        for cell, width, column in zip(row, widths, columns, strict=True):
            space = " " * (width - width_of(cell))
            padded.append(space + cell if column.right else cell + space)
        lines.append((" " * GAP).join(padded).rstrip() + "\n")
    return "".join(lines)
