"""Streams: results as they come, never far ahead, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import TYPE_CHECKING
from uuid import UUID

import anyio
import pytest

from hilos_async import (
    AuthenticationError,
    DeadlineExceededError,
    FlowExecution,
    HilosError,
    InvalidIdError,
    Lookup,
    NotFoundError,
)
from hilos_async.testing import FakeHilos

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_time")]


def uuids(count: int) -> list[UUID]:
    return [UUID(int=number) for number in range(1, count + 1)]


@pytest.fixture(autouse=True)
def _nothing_left_unclosed() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()


async def test_each_id_comes_once_with_its_execution_or_its_error() -> None:
    async with FakeHilos() as fake, fake.session(pace="off") as hilos:
        fake.remove(UUID(int=3))
        async with hilos.stream_executions([*uuids(50), "nope"]) as lookups:
            found = [lookup async for lookup in lookups]
    assert {lookup.id for lookup in found} == {*uuids(50), "nope"}
    assert len(found) == 51
    errors = {lookup.id: type(lookup.error) for lookup in found if lookup.execution is None}
    assert errors == {UUID(int=3): NotFoundError, "nope": InvalidIdError}


async def test_unwrap_gives_the_execution_or_raises_the_error() -> None:
    execution = FlowExecution.from_json(
        b'{"status":"READY","execute_for":"ALL","created_by":null,"last_run_on":null,'
        b'"flow":{"id":"a","name":"n","channel":null,"created_by":null},'
        b'"flow_version":{"flow":{"id":"a","name":"n","channel":null,"created_by":null},'
        b'"is_current_version":true,"last_updated_on":null,"published_by":null}}'
    )
    assert Lookup(UUID(int=1), execution).unwrap() is execution
    with pytest.raises(NotFoundError):
        Lookup(UUID(int=1), None, NotFoundError("x", status=404)).unwrap()
    with pytest.raises(HilosError, match="no outcome"):
        Lookup(UUID(int=1)).unwrap()


async def test_a_slow_consumer_is_never_more_than_max_concurrency_requests_behind() -> None:
    taken = 0
    async with FakeHilos() as fake, fake.session(pace="off") as hilos:
        async with hilos.stream_executions(iter(uuids(60)), max_concurrency=4) as lookups:
            async for _ in lookups:
                taken += 1
                await asyncio.sleep(0.004)
                assert fake.requests <= taken + 4
    assert taken == 60


async def test_leaving_the_block_early_cancels_and_cleans_up() -> None:
    closed = []

    async def ids() -> AsyncIterator[UUID]:
        try:
            for id in uuids(10_000):
                yield id
        finally:
            closed.append(True)

    async with FakeHilos(latency=0.01) as fake, fake.session(pace="off") as hilos:
        before = asyncio.all_tasks()
        async with hilos.stream_executions(ids(), max_concurrency=8) as lookups:
            async for _ in lookups:
                break
        assert hilos.stats.in_flight == hilos.stats.waiting == 0
        assert closed == [True]
        ours = [task for task in asyncio.all_tasks() - before if "hilos" in repr(task.get_coro())]
        assert ours == []
        assert fake.requests <= 20
        assert (await hilos.get_execution(UUID(int=1))).id == UUID(int=1)


async def test_an_error_in_the_block_comes_out_as_it_is() -> None:
    async with FakeHilos() as fake, fake.session(pace="off") as hilos:
        with pytest.raises(ZeroDivisionError):
            async with hilos.stream_executions(uuids(100)) as lookups:
                async for _ in lookups:
                    raise ZeroDivisionError
        assert hilos.stats.in_flight == 0


async def test_a_cancelled_block_leaves_nothing_under_way() -> None:
    async with FakeHilos(latency=5.0) as fake, fake.session(pace="off") as hilos:
        with anyio.move_on_after(0.1):
            async with hilos.stream_executions(uuids(100)) as lookups:
                async for _ in lookups:
                    pytest.fail("nothing can have come")
        assert hilos.stats.in_flight == hilos.stats.waiting == 0


async def test_a_refused_key_comes_out_after_what_was_fetched() -> None:
    found = 0
    async with FakeHilos() as fake, fake.session(pace="off") as hilos:
        with pytest.raises(AuthenticationError):
            async with hilos.stream_executions(uuids(500), max_concurrency=3) as lookups:
                async for lookup in lookups:
                    lookup.unwrap()
                    found += 1
                    if found == 20:
                        fake.revoke()
        assert 20 <= found <= 23
        assert fake.requests <= 26


async def test_what_ends_a_stream_ends_it_again_for_whoever_asks_again() -> None:
    async with FakeHilos() as fake, fake.session(pace="off") as hilos:
        async with hilos.stream_executions([]) as lookups:
            for _ in range(2):
                with pytest.raises(StopAsyncIteration):
                    await anext(lookups)


async def test_the_timeout_turns_the_rest_into_deadline_errors() -> None:
    async with FakeHilos(latency=0.05) as fake, fake.session(pace="off") as hilos:
        async with hilos.stream_executions(uuids(200), max_concurrency=5, timeout=0.3) as lookups:
            found = [lookup async for lookup in lookups]
    kinds = {type(lookup.error) for lookup in found}
    assert len(found) == 200
    assert kinds == {type(None), DeadlineExceededError}


async def test_a_stream_is_used_in_its_block_and_once() -> None:
    async with FakeHilos() as fake, fake.session(pace="off") as hilos:
        lookups = hilos.stream_executions(uuids(3))
        with pytest.raises(RuntimeError, match="async with"):
            await anext(lookups)
        async with lookups:
            assert len([lookup async for lookup in lookups]) == 3
        with pytest.raises(RuntimeError, match="runs once"):
            async with lookups:
                pytest.fail("it must not run again")
        with pytest.raises(TypeError, match="ids must be"):
            hilos.stream_executions(5)  # type: ignore[arg-type]  # wrong on purpose
        await hilos.stream_executions(uuids(3)).__aexit__(None, None, None)
