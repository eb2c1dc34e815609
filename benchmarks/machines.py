"""What 1, 10 and 100 machines buy under a limit: the table of docs/fleets.md, computed.

A job is over when the limit has let all its lookups pass, or when the machines have done them,
whichever takes longer. A machine counts as one process with CAPACITY; what one process really does
here is measured against a FakeHilos without a limit, which runs in a process of its own.
Run: python -m benchmarks.machines [--table]
"""

from __future__ import annotations

import argparse
import asyncio
import math
import subprocess
import sys
import time
from uuid import UUID

from hilos_async import HilosSession
from hilos_async._pace.slots import PADS
from hilos_async.testing import FakeHilos

CAPACITY = 3_000  # executions per second and process; measure() says what it is here
LOOKUPS = (10_000, 1_000_000)
LIMITS = (5, 50, 500, None)  # requests per second
MACHINES = (1, 10, 100)
_MEASURED = 5_000
_TRIES = 3  # the best counts: the others were disturbed


def seconds(lookups: int, limit: int | None, machines: int) -> float:
    """How long it takes: the limit's time and what is kept free of it, or the machines' own."""
    by_machines = lookups / (machines * CAPACITY)
    if limit is None:
        return by_machines
    return max(by_machines, lookups / limit * (1 + PADS[0]))


def words(duration: float) -> str:
    """The duration in the unit that a person would use."""
    units = [("s", 1, 120), ("min", 60, 120), ("h", 3600, 48), ("days", 86_400, math.inf)]
    unit, length, _ = next(each for each in units if duration < each[1] * each[2])
    number = duration / length
    return f"{number:.{0 if number >= 10 else 1 if number >= 1 else 2}f} {unit}"


def table() -> str:
    """The table in Markdown."""
    heads = [f"{machines} machine{'s' * (machines > 1)}" for machines in MACHINES]
    lines = [f"| executions | limit | {' | '.join(heads)} |", "|" + " ---: |" * (2 + len(heads))]
    for lookups in LOOKUPS:
        for limit in LIMITS:
            times = [words(seconds(lookups, limit, machines)) for machines in MACHINES]
            named = "none" if limit is None else f"{limit} per second"
            lines.append(f"| {lookups:,} | {named} | {' | '.join(times)} |")
    return "\n".join(lines)


async def serve() -> None:
    """Be the server until this process is ended."""
    async with FakeHilos() as fake:
        print(fake.base_url, fake.token, flush=True)
        await asyncio.Event().wait()


async def fetch(base_url: str, token: str) -> tuple[float, float]:
    """Executions per second of this process, and per second of processor time that it took."""
    tries: list[tuple[float, float]] = []
    async with HilosSession(token, base_url=base_url, pace="off") as hilos:
        for _ in range(_TRIES):
            began, busy = time.perf_counter(), time.process_time()
            batch = await hilos.gather_executions(UUID(int=number) for number in range(_MEASURED))
            batch.raise_for_errors()
            took, busy = time.perf_counter() - began, time.process_time() - busy
            tries.append((_MEASURED / took, _MEASURED / busy))
    return max(tries)


def measure() -> tuple[float, float]:
    """What one process does here."""
    command = [sys.executable, "-m", "benchmarks.machines", "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        base_url, token = server.stdout.readline().split()
        try:
            return asyncio.run(fetch(base_url, token))
        finally:
            server.kill()


def main() -> None:
    """Print the table, and how far CAPACITY is from what is measured here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="store_true", help="measure nothing")
    asked = parser.parse_args()
    print(table())
    if not asked.table:
        rate, unhindered = measure()
        print(
            f"\nreckoned with {CAPACITY:,} per second and machine; one process here: {rate:,.0f}, "
            f"and {unhindered:,.0f} per second of processor time, without the wait for the server"
        )


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
    else:
        main()
