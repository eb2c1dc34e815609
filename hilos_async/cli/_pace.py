"""``hilos pace``: what the processes of this machine know of the limits that they keep together.

Knows how to show it and how to forget it. Refuses to ask anybody.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hilos_async._pace.pacer import RateLimit
from hilos_async._wire import address
from hilos_async.cli import _show
from hilos_async.cli._show import USAGE, CommandError

if TYPE_CHECKING:
    import argparse

    from hilos_async._pace.state import State

SUMMARY = "show the limits that this machine keeps, or forget them"
DESCRIPTION = """\
Show what is known of each limit that commands, web apps and MachinePacers of this machine and user keep
together: one line for each base URL and API key, under a name that tells neither. It is
forgotten a day after its last use."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument(
        "--forget",
        action="store_true",
        help="forget all of it: what is not written down is learned anew",
    )


def run(options: argparse.Namespace) -> int:
    """Show or forget."""
    try:
        from hilos_async._pace import state_file
    except ImportError as error:
        raise CommandError(str(error), USAGE) from error
    mine = _of_the_environment()
    rows: list[str] = []
    try:
        for path in state_file.all_files():
            file = state_file.StateFile(path)
            if (age := file.read()) is None:
                continue
            is_mine = mine is not None and path == state_file.path_of(mine)
            rows.append(
                f"{path.stem[:8]}  {_limit(file.state):<24}  {_ago(age):<12}"
                f"{'  HILOS_API_KEY' if is_mine else ''}".rstrip()
            )
            if options.forget:
                file.forget()
    except OSError as error:
        raise CommandError(f"cannot read what is known: {error}", 1) from error
    if options.forget:
        _show.message(f"forgotten: {len(rows)}")
    elif rows:
        _show.data(
            "".join(f"{row}\n" for row in ["name      limit                     last used", *rows])
        )
    else:
        _show.message("nothing is known on this machine")
    return 0


def _of_the_environment() -> str | None:
    """The budget of the key and the base URL that the other commands would use."""
    try:
        url = address.resolve_base_url(None, None, allow_http=False)
        return f"key {address.scope(url, address.api_key(None))}"
    except ValueError:
        return None


def _limit(state: State) -> str:
    if not state.requests:
        return "none met so far"
    pause = state.until - time.monotonic()
    limit = str(RateLimit(round(state.requests, 2), state.per))
    paused = f", paused for {pause:.0f} s" if pause > 0 else ""
    return f"{limit} {'learned' if state.learns else 'told'}{paused}"


def _ago(seconds: float) -> str:
    for unit, size in (("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
