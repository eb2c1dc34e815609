"""Tables, a progress bar and a live table as rich draws them.

The only place that imports rich, and itself imported only where rich is known to be there. Text is
never read as rich's markup: flows may be called "[red]".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.progress import Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from hilos_async.cli import _show, _table
from hilos_async.cli._table import Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilos_async.cli._board import Row

_BAR = 20  # narrow enough for the words and a ^C to stand beside it
_SHORT_BAR = 12
_LIVE = (
    Column("id"),
    Column("flow", least=9),
    Column("status", least=9),
    Column("", drop=1),  # the bar
    Column("done", right=True),
    Column("completed", right=True, drop=2),
)
_STYLES = {
    "COMPLETED": "green",
    "RUNNING": "cyan",
    "CANCELED": "red",
    "PAUSED": "yellow",
    "not found": "red",
    "no id": "red",
    "no answer": "yellow",
    "not asked yet": "dim",
}


# How the marks of a bar of totals are drawn: apart from each other without colours as well.
_MARKS = {
    "#": ("█", "green"),
    "=": ("▓", "cyan"),
    "x": ("▒", "red"),
    "-": ("░", "yellow"),
    ".": ("·", "dim"),
}


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], gap: int) -> str:
    """The table, which fits, as text for this terminal, escape sequences and all."""
    drawn = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        drawn.add_column(
            Text(column.header), justify="right" if column.right else "left", no_wrap=True
        )
    for row in rows:
        drawn.add_row(*(_cell(column, text) for column, text in zip(columns, row, strict=True)))
    console = Console(highlight=False)
    with console.capture() as captured:
        console.print(drawn)
    return captured.get()


def _cell(column: Column, text: str) -> Text:
    if not column.bar:
        return Text(text, style=_STYLES.get(text, ""))
    return Text.assemble(*(_MARKS[mark] for mark in text))


def mark(of: str) -> str:
    """How a mark of a bar is drawn."""
    return _MARKS[of][0]


def _bar(share: float, width: int, style: str) -> Text:
    """A bar that can be read without colours, and in a copy of the screen."""
    filled = int(width * share)
    return Text("━" * filled, style=style).append("─" * (width - filled), style="dim")


class _BarColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return _bar(task.percentage / 100, min(_BAR, _show.width() // 4), "blue")


def _line(cells: Sequence[Text], widths: dict[int, int]) -> Text:
    """The cells that there is room for side by side; one that is too long is cut short."""
    line = Text(no_wrap=True, overflow="crop")
    for at, width in widths.items():
        cell = cells[at]
        cell.truncate(width, overflow="ellipsis")
        if _LIVE[at].right:
            cell.pad_left(width - cell.cell_len)
        else:
            cell.pad_right(width - cell.cell_len)
        line.append(cell).append(" " * _table.GAP)
    line.rstrip()
    return line


class Bar:
    """A progress bar on standard error."""

    def __init__(self, total: int, *, keep: bool) -> None:
        self._progress = Progress(
            _BarColumn(),
            TextColumn("{task.description}", markup=False),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=not keep,
        )
        self._task = self._progress.add_task("", total=total)
        self._progress.start()

    def draw(self, done: int, words: str) -> None:
        """Show that so many are done."""
        self._progress.update(self._task, completed=done, description=words, refresh=True)

    def close(self) -> None:
        """Stop: leave the last state or nothing, as was asked."""
        self._progress.stop()


class LiveTable:
    """A table on standard output that is drawn over itself, one row with a bar for each execution."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False)
        self._live.start()

    def draw(self, rows: Sequence[Row], foot: str) -> None:
        """Show the rows, as many as the terminal has lines: first what moves and has moved last."""
        room = max(1, self._console.height - 4)  # header, foot, what is hidden, the cursor's line
        hidden = 0
        if len(rows) > room:
            order = sorted(range(len(rows)), key=lambda at: (rows[at].ended, -rows[at].moved))
            hidden = len(rows) - room
            rows = [rows[at] for at in sorted(order[:room])]
        below = [Text(f"and {hidden:,} more", style="dim")] if hidden else []
        feet = Text(foot, style="dim", no_wrap=True, overflow="ellipsis")
        self._live.update(Group(*self._lines(rows), *below, feet), refresh=True)

    def _lines(self, rows: Sequence[Row]) -> list[Text]:
        table = [
            [row.id, row.flow, row.status, "━" * _SHORT_BAR, row.percent, row.completed]
            for row in rows
        ]
        columns = [
            [column.header, *cells]
            for column, cells in zip(_LIVE, zip(*table, strict=True), strict=True)
        ]
        widths = _table.fit(
            _LIVE, [max(map(cell_len, cells)) for cells in columns], self._console.width
        )
        lines = [_line([Text(cells[0], style="bold") for cells in columns], widths)]
        for row in rows:
            style = _STYLES.get(row.status, "")
            cells = [
                Text(row.id, style="dim"),
                Text(row.flow),
                Text(row.status, style=style),
                _bar(row.done, _SHORT_BAR, style or "blue"),
                Text(row.percent),
                Text(row.completed),
            ]
            lines.append(_line(cells, widths))
        return lines

    def close(self) -> None:
        """Leave the last state and give the cursor back."""
        self._live.stop()
