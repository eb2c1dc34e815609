"""This library with everything armed: retries, deadlines, the body's bound, its pace "off"."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from benchmarks.speed_clients import CONCURRENCY
from hilos_async import HilosSession

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from uuid import UUID

    from benchmarks.speed_clients import Get
    from hilos_async import ExecutionBatch


@asynccontextmanager
async def hilos(base_url: str) -> AsyncIterator[Get]:
    """One lookup at a time."""
    async with HilosSession("benchmark", base_url=base_url, pace="off") as session:
        yield session.get_execution


async def many(base_url: str, ids: Iterable[UUID]) -> ExecutionBatch:
    """A batch."""
    async with HilosSession("benchmark", base_url=base_url, pace="off") as session:
        batch = await session.gather_executions(ids, max_concurrency=CONCURRENCY)
    batch.raise_for_errors()
    return batch


async def stream(base_url: str, ids: Iterable[UUID]) -> int:
    """A stream whose results are counted."""
    count = 0
    async with (
        HilosSession("benchmark", base_url=base_url, pace="off") as session,
        session.stream_executions(ids, max_concurrency=CONCURRENCY) as lookups,
    ):
        async for lookup in lookups:
            assert lookup.error is None
            count += 1
    return count
