"""What an id costs that waits for its turn: a server that never answers, and four ways to ask it.

The ids come from a generator. The moment is that at which as many requests are out as may be.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import tracemalloc
from typing import TYPE_CHECKING

from benchmarks.speed_clients import CLIENTS, CONCURRENCY, execution_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from uuid import UUID

WAYS = {
    "hilos_async, `gather_executions`": "batch",
    "hilos_async, `stream_executions`": "stream",
    "gather + semaphore over naive aiohttp": "semaphore",
    "gather alone over naive aiohttp": "gather",
}


async def _batch(base_url: str, ids: Iterator[UUID]) -> None:
    await CLIENTS["hilos"].function("many")(base_url, ids)


async def _stream(base_url: str, ids: Iterator[UUID]) -> None:
    await CLIENTS["hilos"].function("stream")(base_url, ids)


async def _gather(base_url: str, ids: Iterator[UUID]) -> None:
    async with CLIENTS["naive"].function()(base_url) as get:
        await asyncio.gather(*(get(id) for id in ids))


async def _semaphore(base_url: str, ids: Iterator[UUID]) -> None:
    semaphore = asyncio.Semaphore(CONCURRENCY)
    async with CLIENTS["naive"].function()(base_url) as get:

        async def one(id: UUID) -> None:
            async with semaphore:
                await get(id)

        await asyncio.gather(*(one(id) for id in ids))


_ASK: dict[str, Callable[[str, Iterator[UUID]], Awaitable[None]]] = {
    "batch": _batch,
    "stream": _stream,
    "semaphore": _semaphore,
    "gather": _gather,
}


async def measure(way: str, count: int) -> dict[str, float]:
    """Bytes for each pending id, and CPU seconds until as many requests are out as may be."""
    await _until_out(way, CONCURRENCY)  # imports and caches
    few = await _until_out(way, CONCURRENCY)
    many = await _until_out(way, count)
    tracemalloc.start()
    few_bytes = (await _until_out(way, CONCURRENCY))[1]
    many_bytes = (await _until_out(way, count))[1]
    return {
        "bytes": (many_bytes - few_bytes) / (count - CONCURRENCY),
        "cpu": many[0] - few[0],
    }


async def _until_out(way: str, count: int) -> tuple[float, int]:
    out = 0
    all_out = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal out
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            out += 1
            if out == CONCURRENCY:
                all_out.set()
            await reader.read()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0, backlog=2 * CONCURRENCY)
    base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    ids = (execution_id(number) for number in range(count))
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    cpu = time.process_time()
    asking = asyncio.ensure_future(_ASK[way](base_url, ids))
    await all_out.wait()
    cpu = time.process_time() - cpu
    gc.collect()
    traced = tracemalloc.get_traced_memory()[0] - before
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.05)  # what the handlers still have to do
    return cpu, traced
