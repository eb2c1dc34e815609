"""How far a batch is, shown while it runs: a bar on a terminal, now and then a line elsewhere.

Knows when to speak: never before a second of work or so, and nobody has to be watching. Refuses to
know what is looked up; it hears the batch's own progress and reads the session's stats.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Protocol, Self

from hilos_async.cli import _show

if TYPE_CHECKING:
    from types import TracebackType

    from hilos_async._many.batch import Progress
    from hilos_async.session import HilosSession

_FIRST_DRAWING = 0.4  # seconds: what is quicker than that needs no bar
_FIRST_LINE = 1.0
_REDRAWING = 0.1
_LONGEST_SILENCE = 30.0
_BAR = 20


class Display(Protocol):
    """What a meter draws on."""

    def draw(self, done: int, words: str) -> None:
        """Show that so many are done, and the words on it."""
        ...

    def close(self) -> None:
        """Clear up."""
        ...


class Meter:
    """Shows the progress of one batch while its ``with`` block runs.

    ``heard`` is for the batch's ``on_progress``; ``keep`` leaves the last state on the terminal.
    ``total`` is ``None`` where only the progress will tell it; nothing is shown before.
    """

    def __init__(self, total: int | None, session: HilosSession, *, keep: bool = False) -> None:
        self._total = total
        self._session = session
        self._keep = keep
        self._is_terminal = _show.is_terminal(sys.stderr)
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._progress: Progress | None = None
        self._display: Display | None = None

    def heard(self, progress: Progress) -> None:
        """Hear how far the batch is; drawn at the next turn."""
        self._progress = progress
        self._total = progress.total

    def __enter__(self) -> Self:
        first = _FIRST_DRAWING if self._is_terminal else _FIRST_LINE
        self._timer = self._loop.call_later(first, self._turn)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if self._display is not None:
            try:
                if self._is_terminal and kind is None:
                    self._draw(self._display)
                self._display.close()
            except OSError:
                _show.note("")  # the terminal is gone, and what was meant for it must not stay

    def _turn(self) -> None:
        try:
            if self._total:
                if self._display is None:
                    self._display = _display(self._total, self._is_terminal, self._keep)
                self._draw(self._display)
        except OSError:
            return  # nobody can see it: let the work go on unseen
        elapsed = self._loop.time() - self._started
        silence = _REDRAWING if self._is_terminal else min(elapsed, _LONGEST_SILENCE)
        self._timer = self._loop.call_later(silence, self._turn)

    def _draw(self, display: Display) -> None:
        elapsed = self._loop.time() - self._started
        done = self._progress.done if self._progress else 0
        failed = self._progress.failed if self._progress else 0
        display.draw(
            done, words(done, failed, self._total or 0, elapsed, self._session.stats.paused_for)
        )


def words(done: int, failed: int, total: int, elapsed: float, paused_for: float) -> str:
    """The state of a batch in words, short enough to stand beside a bar."""
    parts = [f"{done:,} of {total:,}"]
    if done == 0 or done >= total:
        parts.append(duration(elapsed))
    else:
        rate = done / elapsed
        parts += [f"{rate:.0f}/s" if rate >= 10 else f"{rate:.1f}/s"]
        parts += [f"{duration((total - done) / rate)} left"]
    if failed:
        parts.append(f"{failed:,} failed")
    if paused_for:
        parts.append(f"paused for {duration(paused_for)}")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``7 s``, ``2:05 min``, ``1:02:05 h``."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02} h"


def _display(total: int, is_terminal: bool, keep: bool) -> Display:
    if not is_terminal:
        return _Lines()
    if not _show.has_rich():
        return _Line(total, keep=keep)
    from hilos_async.cli import _rich

    return _rich.Bar(total, keep=keep)


class _Line:
    """One line of a terminal, written over again and again."""

    def __init__(self, total: int, *, keep: bool) -> None:
        self._total = total
        self._keep = keep
        self._length = 0

    def draw(self, done: int, words: str) -> None:
        size = min(_BAR, _show.width() // 4)  # on a narrow terminal the words are worth more
        filled = size * done // self._total
        self._write(f"[{'#' * filled}{'-' * (size - filled)}] {words}")

    def close(self) -> None:
        if self._keep:
            _show.note("\n")
        else:
            self._write("")
            _show.note("\r")

    def _write(self, text: str) -> None:
        text = text[: _show.width() - 1]  # a full line would scroll
        _show.note(f"\r{text.ljust(self._length)}")
        self._length = len(text)


class _Lines:
    """Plain lines, where nobody can see one being written over."""

    def draw(self, done: int, words: str) -> None:
        _show.message(words)

    def close(self) -> None:
        pass
