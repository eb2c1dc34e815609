"""What each of the library's levers buys: the batch of benchmarks.speed with one switched off.

Prints and writes the table that the documentation's page of performance includes. The ratios are
medians of same-round ratios; every run is a process of its own.
Run: nox -s bench -- levers [--rounds N]
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.speed_clients.levers import LEVERS
from benchmarks.speed_measure import KEPT, Cores, Order, say
from benchmarks.static_server import NoServerError, serve

if TYPE_CHECKING:
    from collections.abc import Sequence

COUNT, SINGLES, ROUNDS = 3_000, 500, 7
TABLE = Path(__file__).parent / "levers.md"
ALL = ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; 2 where there is no server."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.levers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    options = parser.parse_args(arguments)
    cores = Cores.of_this_machine()
    try:
        with serve(cores.server) as server:
            text = _table(Order(server, cores), options.rounds)
    except NoServerError as error:
        say(str(error))
        return 2
    print(text)
    TABLE.write_text(text, encoding="utf-8")
    return 0


def _table(order: Order, rounds: int) -> str:
    variants = [ALL, *LEVERS]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for number in range(rounds):
        for name in variants if number % 2 == 0 else reversed(variants):
            speed = order.measure("speed", "hilos", count=COUNT, singles=SINGLES, without=name)
            found[name].append(speed)
            say(
                f"round {number + 1}/{rounds}: without {name or 'nothing'} {speed['cpu'] * 1e6:.0f} µs"
            )
    kept = {
        name: order.measure("memory", "hilos", count=KEPT, without=name)["kept"] / 1024
        for name in (ALL, "sharing")
    }

    def more(name: str, figure: str) -> str:
        pairs = zip(found[name], found[ALL], strict=True)
        ratio = statistics.median(without[figure] / with_all[figure] for without, with_all in pairs)
        return f"{100 * (ratio - 1):+.0f} %"

    lines = ["| without: | CPU | one at a time | KB kept |", "|---|---|---|---|"]
    for name, (what, _) in LEVERS.items():
        memory = f"{kept[name]:.1f}, not {kept[ALL]:.1f}" if name in kept else "–"
        lines.append(f"| {what} | {more(name, 'cpu')} | {more(name, 'single')} | {memory} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
