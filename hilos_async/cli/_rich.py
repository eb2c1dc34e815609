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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilos_async.cli._board import Row
    from hilos_async.cli._show import Column

_BAR = 20  # narrow enough for the words and a ^C to stand beside it
_SHORT_BAR = 12
_SHORT_STATUS = 13
_PERCENT = 4
_GAP = 2
_NARROW = 100  # columns; below, a long status is cut so that the flow's name has room
_STYLES = {
    "COMPLETED": "green",
    "RUNNING": "cyan",
    "CANCELED": "red",
    "PAUSED": "yellow",
    "not found": "red",
    "no id": "red",
    "no answer": "yellow",
}


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], gap: int) -> str:
    """The table as text for this terminal, escape sequences and all."""
    drawn = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        drawn.add_column(
            Text(column.header), justify="right" if column.right else "left", overflow="fold"
        )
    for row in rows:
        drawn.add_row(*(_cell(text) for text in row))
    console = Console(highlight=False)
    with console.capture() as captured:
        console.print(drawn)
    return captured.get()


def _cell(text: str) -> Text:
    first, *below = text.split("\n")
    cell = Text(first, style=_STYLES.get(first, ""))
    for line in below:
        cell.append(f"\n{line}", style="dim")
    return cell


def _bar(share: float, width: int, style: str) -> Text:
    """A bar that can be read without colours, and in a copy of the screen."""
    filled = int(width * share)
    return Text("━" * filled, style=style).append("─" * (width - filled), style="dim")


class _BarColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return _bar(task.percentage / 100, _BAR, "blue")


def _line(cells: Sequence[Text], widths: Sequence[int]) -> Text:
    """Cells side by side; one that is too long is cut short."""
    line = Text(no_wrap=True, overflow="crop")
    for cell, width in zip(cells, widths, strict=True):
        cell.truncate(width, overflow="ellipsis", pad=True)
        line.append(cell).append(" " * _GAP)
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

    def _widths(self, rows: Sequence[Row]) -> tuple[int, ...]:
        """The width of each column; only the name of the flow gives way."""
        columns = self._console.width
        ids = max(len("id"), *(cell_len(row.id) for row in rows))
        flow = max(len("flow"), *(cell_len(row.flow) for row in rows))
        status = max(len("status"), *(cell_len(row.status) for row in rows))
        completed = max(len("completed"), *(len(row.completed) for row in rows))
        if columns < _NARROW:
            status = min(status, _SHORT_STATUS)
        others = (status, _SHORT_BAR, _PERCENT, completed)
        room = columns - ids - sum(others) - _GAP * (1 + len(others))
        return (ids, max(0, min(flow, room)), *others)

    def _lines(self, rows: Sequence[Row]) -> list[Text]:
        widths = self._widths(rows)
        completed = widths[-1]
        header = ("id", "flow", "status", "done", "", "completed".rjust(completed))
        lines = [_line([Text(word, style="bold") for word in header], widths)]
        for row in rows:
            style = _STYLES.get(row.status, "")
            percent = f"{row.done:.0%}" if row.flow else ""
            cells = [
                Text(row.id, style="dim"),
                Text(row.flow),
                Text(row.status, style=style),
                _bar(row.done, _SHORT_BAR, style or "blue"),
                Text(percent.rjust(_PERCENT)),
                Text(row.completed.rjust(completed)),
            ]
            lines.append(_line(cells, widths))
        return lines

    def close(self) -> None:
        """Leave the last state and give the cursor back."""
        self._live.stop()
