"""Tables and a progress bar as rich draws them.

The only place that imports rich, and itself imported only where rich is known to be there. Text is
never read as rich's markup: flows may be called "[red]".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilos_async.cli._show import Column

_BAR = 20  # narrow enough for the words and a ^C to stand beside it
_STYLES = {"COMPLETED": "green", "RUNNING": "cyan", "CANCELED": "red", "PAUSED": "yellow"}


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


class Bar:
    """A progress bar on standard error."""

    def __init__(self, total: int, *, keep: bool) -> None:
        self._progress = Progress(
            BarColumn(bar_width=_BAR),
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
