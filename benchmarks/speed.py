"""How much CPU time and memory the library takes, beside a dozen other ways to ask the same.

A server that is not the bottleneck runs on one core, the clients in turn on another. Prints how far
it is and the tables, and writes what the documentation shows. With --quick it only compares the
library with what was last accepted, in under two minutes.
Run: nox -s bench -- speed [--quick [--accept]] [--peers a,b] [--rounds N] [--count N]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import speed_guard, speed_measure
from benchmarks.speed_chart import draw
from benchmarks.speed_clients import CLIENTS, generated
from benchmarks.speed_measure import BASE, Cores, Order, say
from benchmarks.speed_report import Results, aims, report
from benchmarks.static_server import NoServerError, serve

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUNDS, COUNT = 5, 5_000
_ROOT = Path(__file__).parent.parent
TABLES = _ROOT / "benchmarks" / "speed.md"  # no page of its own: a page of the docs includes it
AIMS = _ROOT / "benchmarks" / "aims.md"
PICTURE = _ROOT / "docs" / "assets" / "speed.svg"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; 1 if --quick finds something worse, 2 where there is no server."""
    options = _options(arguments)
    cores = Cores.of_this_machine()
    if cores.client == cores.server:
        say("only one core: client and server share it, and the throughput says little")
    try:
        with serve(cores.server) as server:
            if options.quick:
                return speed_guard.check(Order(server, cores), accept=options.accept)
            with tempfile.TemporaryDirectory(prefix="hilos-generated-") as folder:
                results = _measure(Order(server, cores, folder), options)
    except NoServerError as error:
        say(str(error))
        return 2
    text, reached = report(results), aims(results)
    print(f"\n{text}\n{reached}")
    if options.peers is None and options.count == COUNT:
        TABLES.write_text(text, encoding="utf-8")
        AIMS.write_text(f"# The aims, and what was measured\n\n{reached}\n", encoding="utf-8")
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        PICTURE.write_text(draw(results), encoding="utf-8")
        say(f"written: {TABLES}, {PICTURE}")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only compare with what was accepted")
    parser.add_argument("--accept", action="store_true", help="with --quick: accept the figures")
    parser.add_argument(
        "--peers", metavar="A,B", help=f"only these, and write nothing; of {', '.join(CLIENTS)}"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument(
        "--count", type=int, default=COUNT, help="executions in a round; default: %(default)s"
    )
    options = parser.parse_args(arguments)
    if options.accept and not options.quick:
        parser.error("--accept goes with --quick")
    if options.rounds < 1 or options.count < 1:
        parser.error("--rounds and --count are at least 1")
    if options.peers is not None:
        options.peers = options.peers.split(",")
        if unknown := [name for name in options.peers if name not in CLIENTS]:
            parser.error(f"no peer {unknown[0]!r}; there are {', '.join(CLIENTS)}")
    return options


def _measure(order: Order, options: argparse.Namespace) -> Results:
    clients, skipped = _usable(options.peers, Path(order.generated))
    everything = options.peers is None
    rounds = speed_measure.speeds(order, clients, options.count, options.rounds)
    return Results(
        count=options.count,
        rounds=rounds,
        kept=speed_measure.kept(order, clients),
        decoded=order.measure("decode", "hilos"),
        pending=speed_measure.pending(order) if everything else {},
        scale=speed_measure.scale(order) if everything else {},
        imports=speed_measure.imports() if everything else {},
        skipped=skipped,
    )


def _usable(asked: list[str] | None, folder: Path) -> tuple[list[str], dict[str, str]]:
    """The clients that can be measured here, and why the others cannot."""
    clients: list[str] = []
    skipped: dict[str, str] = {}
    for name, client in CLIENTS.items():
        if asked is not None and name not in {*asked, BASE}:
            continue
        why = ""
        if missing := client.missing():
            why = f"{', '.join(missing)} not installed: requirements/bench.txt"
        elif client.generated:
            say(f"generating {name} ...")
            why = generated.generate(name, folder)
        if why:
            say(f"{name} is skipped: {why}")
            skipped[name] = why
        else:
            clients.append(name)
    return clients, skipped


if __name__ == "__main__":
    sys.exit(main())
