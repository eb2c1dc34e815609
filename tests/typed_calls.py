"""Public calls as users write them; never run, but checked by mypy and pyright: the typed surface."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, assert_type
from uuid import UUID

import aiohttp

from hilos_async import (
    ExecutionBatch,
    Failed,
    Fetched,
    FlowExecution,
    FlowExecutionStatus,
    HilosError,
    HilosSession,
    Pacer,
    Progress,
    RateLimit,
    RetryPolicy,
    User,
)
from hilos_async.testing import FakeHilos

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def ids() -> AsyncIterator[str]:
    yield "a1b2c3d4-0000-4000-8000-1234567890ab"


def show(progress: Progress) -> None:
    assert_type(progress.time_left, float | None)
    assert_type(progress.total, int | None)


async def lookups(pacer: Pacer, given: aiohttp.ClientSession) -> None:
    async with HilosSession("key", account="acme", pace=RateLimit(5, per=1.0)) as hilos:
        assert_type(await hilos.get_execution(UUID(int=1), timeout=5), FlowExecution)
        batch = await hilos.gather_executions(ids(), timeout=2.0, on_progress=show)
        assert_type(batch, ExecutionBatch)
        assert_type(batch.executions, dict[UUID, FlowExecution])
        assert_type(batch.errors, dict[UUID | str, HilosError])
        assert_type(batch.by_status(), dict[FlowExecutionStatus, list[FlowExecution]])
        await hilos.gather_executions(["a", UUID(int=1)], max_concurrency=3)
        quick = hilos.with_options(timeout=None, retry=RetryPolicy(attempts=1))
        assert_type(quick, HilosSession)
        assert_type(quick.stats.rate, float | None)
    HilosSession(pace=pacer, session=given)
    HilosSession(pace="off", base_url="https://a.example/api", ssl=False, proxy="http://p")


async def narrowing(hilos: HilosSession, batch: ExecutionBatch) -> None:
    async with hilos.stream_executions(ids()) as lookups:
        async for lookup in lookups:
            assert_type(lookup, Fetched | Failed)
            if lookup.error is None:
                assert_type(lookup.execution, FlowExecution)
                assert lookup.execution.completed >= 0
            else:
                assert_type(lookup.error, HilosError)
                assert_type(lookup.execution, None)
            if lookup.execution is not None:
                assert_type(lookup.execution, FlowExecution)
                assert_type(lookup.error, None)
            if isinstance(lookup, Failed):
                assert_type(lookup.error, HilosError)
            else:
                assert_type(lookup, Fetched)
                assert_type(lookup.execution, FlowExecution)
            match lookup:
                case Fetched(execution=found):
                    assert_type(found, FlowExecution)
                case Failed(error=failure):
                    assert_type(failure, HilosError)
            assert_type(lookup.unwrap(), FlowExecution)
    assert_type(batch["a1b2c3d4"], FlowExecution)
    assert_type(batch[UUID(int=1)], FlowExecution)
    assert_type(batch.get("a1b2c3d4"), FlowExecution | None)
    assert_type("a1b2c3d4" in batch, bool)
    assert_type(batch.to_rows("UTC"), list[dict[str, str | int | float | datetime | None]])


def models(execution: FlowExecution) -> None:
    assert_type(execution.id, UUID | None)
    assert_type(execution.completed, int)
    assert_type(execution.created_by, User | None)
    assert_type(execution.start_on, datetime | None)
    assert_type(execution.average_completion, timedelta | None)
    assert_type(execution.completion_rate, float | None)
    assert_type(execution.status.is_terminal, bool)
    assert_type(FlowExecution.from_json("{}"), FlowExecution)
    assert_type(execution.to_json(), bytes)


async def fakes() -> None:
    async with FakeHilos() as fake:
        assert_type(fake.session(), HilosSession)
