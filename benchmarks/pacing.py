"""How fast the pacing is, and how often it is refused: in virtual time, beside its peers.

The library's own gate and pacers, and three ways in which others do it, ask the same models of
servers. Prints each case as it is done, then the tables, and writes them and a picture for the
documentation. It reports: a figure that misses its aim is no failure. The reported seeds are others
than those used while tuning. Run: python -m benchmarks.pacing [--quick]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.pace_sim.cases import CASES
from benchmarks.pace_sim.chart import draw
from benchmarks.pace_sim.kinds import PEERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from benchmarks.pace_sim.kinds import Figure, Row

SEEDS = (101, 102, 103)  # tuned on 1, 2 and 3
_ROOT = Path(__file__).parent.parent
TABLE = _ROOT / "benchmarks" / "pacing.md"  # no page of its own: a page of the docs includes it
PICTURE = _ROOT / "docs" / "assets" / "pacing.svg"

_HOW = f"""\
Virtual time, seeds {", ".join(map(str, SEEDS))} (none of them used while tuning); 50 lookups at once; \
a round trip is 60 ms and two exponential jitters of 3 ms on average. The library's figures are the \
worst of the seeds, those of the peers the median. Goodput is the best possible time divided by the \
time taken, and the best possible is the lookups divided by the limit's rate, so a client that fills \
a fresh window at once may show more than 100 %. Refusals are per 1,000 lookups that were answered. \
The limits tell a Retry-After in whole seconds. ¹ A round trip is 100 ms and two exponential jitters \
of 50 ms."""
_WHO = """\
Peers, none of which is told the limit: goodput / refusals per 1,000; where 1 % or more of the lookups \
were given up, how many. *Full jitter* is tenacity's `wait_random_exponential(max=60)`, for ever; \
*Stainless style* retries twice after 0.5 s · 2ⁿ less up to 25 %, or after a Retry-After of at most \
60 s; *botocore adaptive* is the published algorithm of that mode, with 10 attempts."""


def main() -> None:
    """Play the cases, print the tables; without ``--quick``, write what the documentation shows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pacing", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only the small cases; write nothing")
    quick: bool = parser.parse_args().quick
    cases = [case for case in CASES if case.quick or not quick]
    rows: list[Row] = []
    for number, case in enumerate(cases, 1):
        began = time.perf_counter()
        row = case.play(SEEDS)
        rows.append(row)
        result = ", ".join(f"{figure.name} {figure}" for figure in row.figures)
        took = time.perf_counter() - began
        sys.stderr.write(f"[{number}/{len(cases)}] {row.name}: {result} ({took:.0f} s)\n")
        sys.stderr.flush()
    table = "\n".join(_report(rows))
    sys.stdout.write(f"\n{table}\n")
    if not quick:
        TABLE.write_text(f"{table}\n", encoding="utf-8")
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        PICTURE.write_text(draw(SEEDS[0]), encoding="utf-8")
        sys.stderr.write(f"\nwritten: {TABLE}, {PICTURE}\n")


def _report(rows: list[Row]) -> Iterator[str]:
    yield from _table(
        ("case", "figure", "reached", "aim", ""),
        (
            (
                row.name if number == 0 else "",
                figure.name,
                str(figure),
                figure.aimed,
                _verdict(figure),
            )
            for row in rows
            for number, figure in enumerate(row.figures)
        ),
    )
    yield from ("", _HOW, "")
    yield from _table(
        ("case", "hilos_async", *PEERS),
        ((row.name, _ours(row), *row.peers.values()) for row in rows if row.peers),
    )
    yield from ("", _WHO)


def _ours(row: Row) -> str:
    goodput, refusals = row.figures[:2]
    return f"{goodput} / {refusals}"


def _verdict(figure: Figure) -> str:
    return {True: "reached", False: "**not reached**", None: ""}[figure.reached]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    cells = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for number, row in enumerate(cells):
        line = " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"| {line} |"
        if number == 0:
            yield f"|{'|'.join('-' * (width + 2) for width in widths)}|"


if __name__ == "__main__":
    main()
