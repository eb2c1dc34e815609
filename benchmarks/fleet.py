"""Four processes under one pacer against one real server: what it costs to share a limit.

Each of the processes fetches a quarter of the lookups from a FakeHilos that runs in a process of its
own and keeps a sliding log. They share a MachinePacer, or a RedisPacer with a redis-server started for
the run. Goodput is the best possible time by the time until the last has finished.
Run: python -m benchmarks.fleet [lookups] [--by machine redis]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import msgspec
import redis.asyncio

from hilos_async import HilosSession, RateLimit, Reply
from hilos_async.machine import MachinePacer
from hilos_async.testing import FakeHilos, FakeLimit
from tests.redis_server import RedisServer

if TYPE_CHECKING:
    from hilos_async import Pacer

LIMIT = 50
PROCESSES = 4


def say(**fields: object) -> None:
    """Tell the parent process something."""
    print(json.dumps(fields), flush=True)


async def told() -> str:
    """Wait for a line from the parent process; empty when it has closed the pipe."""
    return await asyncio.to_thread(sys.stdin.readline)


async def serve(limit: int, latency: float) -> None:
    """Be the server until the parent closes the pipe."""
    async with FakeHilos(limit=FakeLimit(limit), latency=latency) as fake:
        say(url=fake.base_url, token=fake.token)
        await told()
        say(accepted=fake.accepted, refused=fake.refused)


async def work(number: int, lookups: int, limit: int, by: str, url: str, token: str) -> None:
    """Be one of the fleet; a limit of 0 is to be learned, ``by`` is "machine" or the URL of a Redis."""
    known = RateLimit(limit) if limit else None
    async with contextlib.AsyncExitStack() as stack:
        pacer: Pacer = MachinePacer(known)
        if by != "machine":
            from hilos_async.redis import RedisPacer

            pacer = RedisPacer(
                await stack.enter_async_context(redis.asyncio.Redis.from_url(by)), known
            )
        await _fetch(number, lookups, pacer, url, token)


async def _fetch(number: int, lookups: int, pacer: Pacer, url: str, token: str) -> None:
    ids = [UUID(int=n) for n in range(number, lookups, PROCESSES)]
    async with HilosSession(token, base_url=url, pace=pacer) as hilos:
        say(ready=True)
        await told()
        began = time.monotonic()
        batch = await hilos.gather_executions(ids)
        say(
            seconds=time.monotonic() - began,
            fetched=len(batch.executions),
            slots=hilos.stats.requests,
            limit=str(hilos.stats.limit),
        )


class Process:
    """One of the processes, as the parent sees it."""

    def __init__(self, *arguments: object) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.fleet", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self) -> dict[str, Any]:
        """Wait for what it says next."""
        assert self.popen.stdout is not None
        return msgspec.json.decode(self.popen.stdout.readline(), type=dict[str, Any])

    def go(self) -> None:
        """Let it begin, or end."""
        assert self.popen.stdin is not None
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()


async def evalsha_calls(redis_url: str) -> int:
    """How many calls of the script Redis has answered."""
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        stats = await client.info("commandstats")
    return sum(
        int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("evalsha", "eval")
    )


class Run(NamedTuple):
    """How the fleet did."""

    fetched: int
    goodput: float
    refusals: float  # per 1,000 lookups
    apart: float  # first and last process to finish, as a share of the whole time
    calls: float  # of Redis per slot; 0 without one
    limit: str  # as the pacer knows it at the end


def run(lookups: int, known: bool, limit: int, latency: float, *, redis: bool = True) -> Run:
    """Run the fleet once, with a server and a Redis or an empty cache directory of its own."""
    with ExitStack() as stack:
        by = stack.enter_context(RedisServer()).url if redis else "machine"
        cache = stack.enter_context(tempfile.TemporaryDirectory())
        os.environ["XDG_CACHE_HOME"] = cache
        server = Process("serve", limit, latency)
        stack.enter_context(server.popen)
        where = server.hear()
        workers = [
            Process("work", n, lookups, limit if known else 0, by, *where.values())
            for n in range(PROCESSES)
        ]
        for worker in workers:
            stack.enter_context(worker.popen)
            worker.hear()
        for worker in workers:
            worker.go()
        done = [worker.hear() for worker in workers]
        server.go()
        counts = server.hear()
        calls = asyncio.run(evalsha_calls(by)) if redis else 0
    seconds = [float(each["seconds"]) for each in done]
    last = max(seconds)
    return Run(
        fetched=sum(int(each["fetched"]) for each in done),
        goodput=lookups / limit / last,
        refusals=int(counts["refused"]) / lookups * 1000,
        apart=(last - min(seconds)) / last,
        calls=calls / sum(int(each["slots"]) for each in done),
        limit=done[0]["limit"],
    )


async def reservation() -> float:
    """Seconds that reserving a slot takes a process."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        pacer = MachinePacer(RateLimit(1_000_000))
        pacer.bind("scope")
        took: list[float] = []
        for _ in range(2_000):
            began = time.perf_counter()
            at = await pacer.reserve()
            took.append(time.perf_counter() - began)
            pacer.sent(at)
            pacer.report(Reply("accepted", at, at + 0.03))
        await pacer.flush()
    return statistics.median(took)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lookups", type=int, nargs="?", default=4_000)
    parser.add_argument("--limit", type=int, default=LIMIT)
    parser.add_argument("--latency", type=float, nargs="*", default=[0.0, 0.05])
    parser.add_argument("--only", choices=["known", "learned"])
    parser.add_argument(
        "--by", nargs="*", choices=["machine", "redis"], default=["machine", "redis"]
    )
    asked = parser.parse_args()
    print(
        "| fleet of four | fetched | goodput | refusals per 1,000 | finish times apart "
        "| Redis calls per slot | limit at the end |\n|---|---|---|---|---|---|---|"
    )
    kinds = [asked.only] if asked.only else ["known", "learned"]
    for by in asked.by:
        for latency in asked.latency:
            for kind in kinds:
                row = run(asked.lookups, kind == "known", asked.limit, latency, redis=by == "redis")
                print(
                    f"| {by}: {kind} {asked.limit}/s, latency {latency * 1000:.0f} ms "
                    f"| {row.fetched:,}/{asked.lookups:,} | {row.goodput:.1%} | {row.refusals:.1f} "
                    f"| {row.apart:.1%} | {row.calls:.2f} | {row.limit} |",
                    flush=True,
                )

    if "machine" in asked.by:
        micro = asyncio.run(reservation()) * 1e6
        print(f"\nA reservation of a MachinePacer costs {micro:.0f} µs, the median of 2,000.")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", limit, latency]:
            asyncio.run(serve(int(limit), float(latency)))
        case ["work", number, lookups, limit, by, url, token]:
            asyncio.run(work(int(number), int(lookups), int(limit), by, url, token))
        case _:
            main()
