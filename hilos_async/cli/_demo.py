"""``hilos demo``: the main job against a server of one's own that limits and fails.

Knows how to make a FakeHilos misbehave and how to say what came of it. Asks nobody but that server:
no key, no network, and no variable of the environment counts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shlex
import time
from typing import TYPE_CHECKING, Final
from uuid import NAMESPACE_URL, UUID, uuid5

from hilos_async._pace.pacer import RateLimit
from hilos_async.cli import _connection, _interrupt, _meter, _show, _totals
from hilos_async.cli._show import FAILED, USAGE, CommandError

if TYPE_CHECKING:
    from hilos_async._many.batch import ExecutionBatch
    from hilos_async._wire.gate import Stats
    from hilos_async.testing import FakeHilos

SUMMARY = "fetch 500 executions from a server on this machine that limits and fails"
DESCRIPTION = """\
Start a Hilos API on this machine that allows so many requests per second and lets one in ten fail,
fetch 500 executions from it, and say how. Needs no key and no network, and takes a few seconds."""

COUNT: Final = 500
MISSING: Final = "a1b2c3d4-0000-4000-8000-000000000404"  # the one id that the server does not have
LIMIT: Final = 120  # requests per second: slow enough to be seen, quick enough to be waited for

_ROOMY: Final = 66  # columns of a terminal in which the Python below may be indented

SIX_LINES: Final = f"""\
import asyncio
from hilos_async import HilosSession, RateLimit

async def fetch(ids):
    async with HilosSession(pace=RateLimit({LIMIT})) as hilos:
        return await hilos.gather_executions(ids)

batch = asyncio.run(fetch(ids))
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument(
        "--serve",
        action="store_true",
        help="only keep that server up until Ctrl-C, and print the environment variables that point "
        "everything at it",
    )
    parser.add_argument(
        "--port", type=_port, default=0, metavar="N", help="the server's port (default: a free one)"
    )
    parser.add_argument(
        "--lifetime",
        type=_connection.seconds,
        metavar="SECONDS",
        help="let every campaign move, and end within so many seconds (default: they stand still)",
    )


def run(options: argparse.Namespace) -> int:
    """Show the main job, or serve until Ctrl-C; 1 if anything was not fetched after all."""
    if not options.serve:
        return _interrupt.run(_demonstrate(options))
    try:
        _interrupt.run(_keep_serving(options))
    except KeyboardInterrupt:
        _show.end_line()
    return 0


def example_ids(count: int) -> list[UUID]:
    """Ids that are the same in every run; to the server any UUID is an execution."""
    return [uuid5(NAMESPACE_URL, f"hilos demo {number}") for number in range(count)]


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to 65535")
    return int(text)


async def _start(options: argparse.Namespace, stack: contextlib.AsyncExitStack) -> FakeHilos:
    """A server that runs until the stack unwinds."""
    from hilos_async.testing import FakeHilos, FakeLimit, Fault

    # Three times one request in thirty: a later fault hits only what the earlier ones spared.
    faults = [
        Fault.status(503, share=1 / 30),
        Fault.reset(share=1 / 29),
        Fault.truncate(share=1 / 28),
    ]
    server = FakeHilos(
        limit=FakeLimit(LIMIT), faults=faults, port=options.port, lifetime=options.lifetime
    )
    server.remove(MISSING)
    try:
        return await stack.enter_async_context(server)
    except OSError as error:
        raise CommandError(
            f"port {options.port} cannot be used: {error.strerror}", USAGE
        ) from error


async def _demonstrate(options: argparse.Namespace) -> int:
    async with contextlib.AsyncExitStack() as stack:
        server = await _start(options, stack)
        _show.message(
            f"a Hilos API on this machine: {LIMIT} requests per second, one in ten fails; "
            f"fetching {COUNT} executions"
        )
        started = time.monotonic()
        async with server.session(pace=RateLimit(LIMIT)) as hilos:
            with _meter.Meter(COUNT, hilos, keep=True) as meter:
                batch = await hilos.gather_executions(example_ids(COUNT), on_progress=meter.heard)
            _totals.show(batch.executions.values(), "status")
            _show_work(server, hilos.stats, batch, time.monotonic() - started)
    indent = " " * (4 if _show.width() >= _ROOMY else 0)
    _show.prose(
        "\nThe Python that did it, where HILOS_API_KEY and HILOS_BASE_URL say whom to ask:\n\n"
    )
    _show.data("".join(f"{indent}{line}".rstrip() + "\n" for line in SIX_LINES.splitlines()))
    _show.prose("\nTo try it yourself: hilos demo --serve\n")
    return 0 if batch else FAILED


def _show_work(server: FakeHilos, stats: Stats, batch: ExecutionBatch, seconds: float) -> None:
    _show.prose(
        f"\n{len(batch.executions)} of {len(batch)} executions fetched in {seconds:.1f} s.\n"
        f"Retried: {server.faulted} requests failed (503, reset, cut short); "
        f"{stats.retries} were sent again.\n"
        f"Paced: {server.requests} requests at {server.requests / seconds:.0f} per second; "
        f"the limit of {LIMIT} refused {server.refused or 'none'}.\n"
    )


async def _keep_serving(options: argparse.Namespace) -> None:
    async with contextlib.AsyncExitStack() as stack:
        server = await _start(options, stack)
        _show.data(
            f"export HILOS_API_KEY={shlex.quote(server.token)}\n"
            f"export HILOS_BASE_URL={shlex.quote(server.base_url)}\n"
        )
        _show.message(
            f"a Hilos API for whoever has set these, until Ctrl-C: {LIMIT} requests per second, one "
            f"in ten fails\nany UUID is an execution, but for {MISSING}; for one: "
            f"hilos get {example_ids(1)[0]}"
        )
        await asyncio.Event().wait()
