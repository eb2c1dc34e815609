"""The pace on a real loop: real sockets to a FakeHilos in a process of its own, in real time.

The simulation in benchmarks.pacing has the whole table; this shows that its figures are those of
real time as well. It takes about four minutes. Run: python -m benchmarks.real_loop
"""

import asyncio
import json
import subprocess
import sys
import time
from typing import Literal
from uuid import UUID

from hilos_async import HilosSession, RateLimit
from hilos_async.testing import FakeHilos, FakeLimit

LATENCY = 0.05  # seconds


async def serve(limit: str) -> None:
    """Serve that limit, given as JSON, until a line comes in; then tell what was refused."""
    orders = json.loads(limit)
    async with FakeHilos(latency=LATENCY, limit=FakeLimit(**orders) if orders else None) as fake:
        print(fake.base_url, fake.token, flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print(fake.refused, flush=True)


async def fetch(
    where: list[str], pace: RateLimit | Literal["learn", "off"], count: int
) -> tuple[float, int]:
    """Seconds that so many lookups take, and the refusals that the session met."""
    base_url, token = where
    async with HilosSession(token, base_url=base_url, pace=pace) as hilos:
        began = time.perf_counter()
        batch = await hilos.gather_executions(UUID(int=number) for number in range(count))
        batch.raise_for_errors()
        return time.perf_counter() - began, hilos.stats.refusals


def run(
    limit: dict[str, float | str], pace: RateLimit | Literal["learn", "off"], count: int
) -> tuple[float, int]:
    """One case against a server of its own."""
    command = [sys.executable, "-m", "benchmarks.real_loop", json.dumps(limit)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as server:  # type: ignore[call-overload]  # a dict
        assert server.stdout is not None
        where = server.stdout.readline().split()
        took, refusals = asyncio.run(fetch(where, pace, count))
        server.communicate("\n")
    return took, refusals


def main() -> None:
    """Print each case as it ends."""
    fifty: dict[str, float | str] = {"requests": 50, "retry_after": 1}
    cases: list[tuple[str, dict[str, float | str], float]] = [
        (
            "known 5/s, bucket with a lock-out",
            {"requests": 5, "kind": "bucket", "lockout": 30.0},
            5,
        ),
        ("known 5/s, sliding log", {"requests": 5}, 5),
        ("known 5/s, fixed window", {"requests": 5, "kind": "fixed-window"}, 5),
    ]
    for name, limit, rate in cases:
        took, refusals = run(limit, RateLimit(rate), 150)
        print(f"{name}: goodput {149 / rate / took:.1%}, refusals {refusals} of 150", flush=True)
    took, refusals = run(fifty, "learn", 2_000)
    print(
        f"unknown 50/s: goodput {2_000 / 50 / took:.1%}, refusals {refusals} of 2,000", flush=True
    )
    for round_number in range(3):
        free, _ = run({}, "off", 10_000)
        paced, _ = run({}, "learn", 10_000)
        print(
            f"no limit, round {round_number + 1}: {paced / free - 1:+.1%} for learning "
            f"({free:.1f} s without a pace)",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(serve(sys.argv[1]))
    else:
        main()
