"""``hilos watch``: campaigns as they move, until all have ended.

Knows when a change is worth a line, and what a line says. Refuses to know how often is asked, and how
a live table is drawn.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol

from hilos_async._extras import install_command
from hilos_async.cli import _connection, _ids, _interrupt, _show
from hilos_async.cli._board import Board, percent_done, share_done
from hilos_async.cli._show import FAILED, INTERRUPTED, REFUSED
from hilos_async.errors import AuthenticationError

if TYPE_CHECKING:
    import argparse
    from uuid import UUID

    from hilos_async._many.watch import Change
    from hilos_async.models import FlowExecution
    from hilos_async.session import HilosSession

SUMMARY = "watch executions until all have ended"
DESCRIPTION = """\
Ask for flow executions again and again until each has ended. On a terminal (with the extra cli) it is
a live table with a bar for each; elsewhere a plain line for each change of status, for each tenth of
the contacts, and for each lookup that fails. Ctrl-C ends it."""

_REDRAWING: Final = 0.25  # seconds
_STEP: Final = 0.1  # share of the contacts that is worth a line


class _Display(Protocol):
    """What shows the changes."""

    def take(self, change: Change) -> None:
        """Show a change, now or at the next drawing."""
        ...

    def close(self) -> None:
        """Leave the last state where a person reads on."""
        ...


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("ids", nargs="*", metavar="ID", help="the UUID of an execution")
    _ids.configure(parser)


def run(options: argparse.Namespace) -> int:
    """Watch, and say in the exit code how it ended: 1 if an id was not found or time was up."""
    ids = _ids.given(options.ids, options.file)
    session = _connection.connect(options).session
    board = Board(ids)
    try:
        _interrupt.run(_watch(session, board, options.timeout))
    except AuthenticationError as error:
        _show.message(str(error))
        return REFUSED
    except TimeoutError:
        _show.message(f"the time is up: {board.tally()}")
        return FAILED
    except KeyboardInterrupt:
        _show.end_line()
        _show.message(f"stopped: {board.tally()}")
        return INTERRUPTED
    return FAILED if board.failed else 0


async def _watch(session: HilosSession, board: Board, timeout: float | None) -> None:
    async with asyncio.timeout(timeout), session as hilos:
        with contextlib.closing(_display(board, hilos)) as display:
            async with hilos.watch_executions(board.ids) as changes:
                async for change in changes:
                    board.take(change)
                    display.take(change)


def _display(board: Board, session: HilosSession) -> _Display:
    if not _show.is_terminal(sys.stdout):
        return _Lines()
    if _show.has_rich():
        return _Live(board, session)
    _show.message(f"the extra cli makes a live table of this: {install_command('cli')}")
    return _Lines(board)


class _Live:
    """A table that is drawn anew while it changes."""

    def __init__(self, board: Board, session: HilosSession) -> None:
        from hilos_async.cli._rich import LiveTable

        self._board = board
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._table = LiveTable()
        self._turn()

    def take(self, change: Change) -> None:
        pass  # the board has it

    def _turn(self) -> None:
        self._timer = self._loop.call_later(_REDRAWING, self._turn)
        self._draw()

    def _draw(self) -> None:
        elapsed = self._loop.time() - self._started
        stats = self._session.stats
        foot = self._board.foot(elapsed, stats.requests, stats.paused_for)
        with contextlib.suppress(OSError):  # nobody can see it: let the watch go on unseen
            self._table.draw(self._board.rows, foot)

    def close(self) -> None:
        self._timer.cancel()
        self._draw()
        with contextlib.suppress(OSError):
            self._table.close()


class _Lines:
    """One plain line for what is worth one; with a board, a line for a terminal: with short ids."""

    def __init__(self, board: Board | None = None) -> None:
        self._board = board
        self._told: dict[UUID | str, tuple[str, float]] = {}

    def take(self, change: Change) -> None:
        if change.after is None:
            again = "" if change.ended else "; it will be asked again"
            self._tell(change, f"failed: {change.error}{again}")
            return
        status, share = str(change.after.status), share_done(change.after)
        was, told = self._told.get(change.id, ("", 0.0))
        if status != was or abs(share - told) >= _STEP or change.ended:
            self._told[change.id] = (status, share)
            moved = status if was in ("", status) else f"{was} -> {status}"
            self._tell(change, f"{moved}  {_numbers(change.after)}")

    def close(self) -> None:
        pass  # every line stands already

    def _tell(self, change: Change, words: str) -> None:
        now = datetime.now().astimezone()
        if self._board is None:
            _show.data(f"{_show.clean(f'{now:%Y-%m-%d %H:%M:%S}  {change.id}  {words}')}\n")
        else:
            _show.paragraph(f"{now:%H:%M:%S}  ", f"{self._board.short_id(change.id)}  {words}")


def _numbers(execution: FlowExecution) -> str:
    completed, of = execution.completed, execution.num_contacts
    return f"{percent_done(execution)} done  {completed:,}/{of:,} completed  {execution.flow.name}"
