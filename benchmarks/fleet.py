"""Four processes under one RedisPacer against one real server: what it costs to share a limit.

Each of the processes fetches a quarter of the lookups from a FakeHilos that runs in a process of its
own and keeps a sliding log; Redis is a redis-server started for the run. Goodput is the best possible
time by the time until the last has finished. Run: python -m benchmarks.fleet [lookups]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import redis.asyncio

from hilos_async import HilosSession, RateLimit
from hilos_async.redis import RedisPacer
from hilos_async.testing import FakeHilos, FakeLimit
from tests.redis_server import RedisServer

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


async def work(number: int, lookups: int, limit: int, redis_url: str, url: str, token: str) -> None:
    """Be one of the fleet; a limit of 0 is to be learned."""
    client = redis.asyncio.Redis.from_url(redis_url)
    pacer = RedisPacer(client, RateLimit(limit) if limit else None)
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
    await client.aclose()


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
    calls: float  # of Redis per slot
    limit: str  # as the pacer knows it at the end


def run(lookups: int, known: bool, limit: int, latency: float) -> Run:
    """Run the fleet once, with a Redis and a server of its own."""
    with ExitStack() as stack:
        redis_url = stack.enter_context(RedisServer()).url
        server = Process("serve", limit, latency)
        stack.enter_context(server.popen)
        where = server.hear()
        workers = [
            Process("work", n, lookups, limit if known else 0, redis_url, *where.values())
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
        calls = asyncio.run(evalsha_calls(redis_url))
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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lookups", type=int, nargs="?", default=4_000)
    parser.add_argument("--limit", type=int, default=LIMIT)
    parser.add_argument("--latency", type=float, nargs="*", default=[0.0, 0.05])
    parser.add_argument("--only", choices=["known", "learned"])
    asked = parser.parse_args()
    print(
        "| fleet of four | fetched | goodput | refusals per 1,000 | finish times apart "
        "| Redis calls per slot | limit at the end |\n|---|---|---|---|---|---|---|"
    )
    for latency in asked.latency:
        for kind in ("known", "learned"):
            if asked.only in (None, kind):
                row = run(asked.lookups, kind == "known", asked.limit, latency)
                print(
                    f"| {kind} {asked.limit}/s, latency {latency * 1000:.0f} ms "
                    f"| {row.fetched:,}/{asked.lookups:,} | {row.goodput:.1%} | {row.refusals:.1f} "
                    f"| {row.apart:.1%} | {row.calls:.2f} | {row.limit} |",
                    flush=True,
                )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", limit, latency]:
            asyncio.run(serve(int(limit), float(latency)))
        case ["work", number, lookups, limit, redis_url, url, token]:
            asyncio.run(work(int(number), int(lookups), int(limit), redis_url, url, token))
        case _:
            main()
