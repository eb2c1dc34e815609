"""The process that is measured: one task, one client; prints what it found as one line of JSON.

Started by benchmarks.speed with the order as its only argument. A process of its own for each round
and client: peak memory is a process's, and nobody inherits another's heap.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import resource
import statistics
import sys
import time
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.speed_clients import CLIENTS, CONCURRENCY, Client, execution_id, pending

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from uuid import UUID


@dataclass(kw_only=True)
class Order:
    """What is to be measured.

    ``path`` is put before sys.path: the generated clients. ``without`` is a lever of this library that
    is switched off.
    """

    task: str
    client: str
    warm_up: int = 0
    base_url: str = ""
    count: int = 0
    singles: int = 0
    core: int | None = None
    path: str = ""
    without: str = ""


async def many(client: Client, base_url: str, ids: Sequence[UUID]) -> Any:
    """Fetch them all, the way the client is used for many at once; what is kept of them."""
    if client.many == "own":
        return await client.function("many")(base_url, ids)
    async with client.function()(base_url) as get:
        if client.many == "gather":
            semaphore = asyncio.Semaphore(CONCURRENCY)

            async def one(execution_id: UUID) -> Any:
                async with semaphore:
                    return await get(execution_id)

            return await asyncio.gather(*(one(id) for id in ids))
        kept: list[Any] = []
        remaining = iter(ids)

        async def work() -> None:
            for execution_id in remaining:
                kept.append(await get(execution_id))  # noqa: PERF401 - several workers, one list

        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
        return kept


async def one_by_one(client: Client, base_url: str, ids: Sequence[UUID]) -> float:
    """The median time of a lookup when nothing else is under way, in seconds."""
    times: list[float] = []
    async with client.function()(base_url) as get:
        for execution_id in ids:
            began = time.perf_counter()
            await get(execution_id)
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def speed(client: Client, order: Order, run: Runner) -> dict[str, float]:
    """CPU and wall time for each execution, the process's peak and the latency of a single one."""
    ids = [execution_id(number) for number in range(order.warm_up + order.count)]
    run(many(client, order.base_url, ids[: order.warm_up]))
    measured = ids[order.warm_up :]
    gc.collect()
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    kept = run(many(client, order.base_url, measured))
    after, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - began
    kernel = after.ru_stime - before.ru_stime
    cpu = after.ru_utime - before.ru_utime + kernel
    if len(kept) != order.count:
        raise SystemExit(f"{len(kept)} of {order.count} results")
    # The peak of this address space: getrusage's would be the parent's, which was forked.
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert peak is not None
    found = {
        "cpu": cpu / order.count,
        "kernel": kernel / order.count,
        "wall": wall / order.count,
        "peak": int(peak[1]) * 1024,
    }
    del kept
    gc.collect()
    if order.singles:
        found["single"] = run(one_by_one(client, order.base_url, measured[: order.singles]))
    return found


def memory(client: Client, order: Order, run: Runner) -> dict[str, float]:
    """Bytes for each result that is kept, without what a first batch leaves behind."""
    ids = [execution_id(number) for number in range(order.warm_up + order.count)]
    first = run(many(client, order.base_url, ids[: order.warm_up]))
    del first
    tracemalloc.start()
    kept = run(many(client, order.base_url, ids[order.warm_up : 2 * order.warm_up]))
    gc.collect()
    few = tracemalloc.get_traced_memory()[0]
    del kept
    kept = run(many(client, order.base_url, ids[order.warm_up :]))
    gc.collect()
    return {"kept": (tracemalloc.get_traced_memory()[0] - few) / (len(kept) - order.warm_up)}


def decode(client: Client, order: Order, run: Runner) -> dict[str, float]:
    """Seconds for one body, for each way to decode it."""
    from benchmarks.speed_clients import decoding

    return decoding.measure()


def waiting(client: Client, order: Order, run: Runner) -> dict[str, float]:
    """Bytes and CPU seconds for each id that waits."""
    found: dict[str, float] = run(pending.measure(order.client, order.count))
    return found


TASKS: dict[str, Callable[[Client, Order, Runner], dict[str, float]]] = {
    "speed": speed,
    "memory": memory,
    "decode": decode,
    "pending": waiting,
}
if TYPE_CHECKING:
    Runner = Callable[[Coroutine[Any, Any, Any]], Any]


def main() -> None:
    """Carry out the order."""
    order = Order(**json.loads(sys.argv[1]))
    if order.core is not None:
        os.sched_setaffinity(0, {order.core})
    if order.path:
        sys.path.insert(0, order.path)
    # What else is installed must not count; benchmarks.telemetry measures what this costs.
    sys.modules["opentelemetry"] = None
    if order.without:
        from benchmarks.speed_clients.levers import LEVERS

        LEVERS[order.without][1]()
    client = CLIENTS.get(order.client, CLIENTS["hilos"])
    run: Runner = asyncio.run
    if client.uvloop:
        import uvloop

        run = uvloop.run
    print(json.dumps(TASKS[order.task](client, order, run)), flush=True)
    # Not through Python's own end: threads of Rust now and then crash in it, after all was measured.
    os._exit(0)


if __name__ == "__main__":
    main()
