"""One question, one request; and answers that are recent enough save one."""

from __future__ import annotations

import asyncio
import math
from uuid import UUID

import pytest

from hilos_async import (
    DeadlineExceededError,
    ExecutionBatch,
    FlowExecution,
    HilosError,
    NotFoundError,
    RateLimit,
    ResponseTooLargeError,
    RetryPolicy,
    ServerError,
)
from hilos_async._many import lookups as lookup_module
from hilos_async.testing import FakeHilos, Fault

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_time")]

ID = UUID("a1b2c3d4-0000-4000-8000-1234567890ab")


async def test_fifty_tasks_that_ask_for_one_id_at_once_share_one_request() -> None:
    async with FakeHilos(latency=0.02) as fake, fake.session(pace="off") as hilos:
        quick = hilos.with_options(timeout=30)
        found = await asyncio.gather(
            *(hilos.get_execution(ID) for _ in range(25)),
            *(quick.get_execution(str(ID).upper()) for _ in range(24)),
            hilos.gather_executions([ID]),
        )
        assert fake.requests == 1
        assert len({id(answer) for answer in found[:49]}) == 1
        await hilos.get_execution(ID)
        assert fake.requests == 2  # it had ended: asked again


async def test_an_answer_that_is_an_error_is_shared_too() -> None:
    async with FakeHilos(latency=0.02) as fake, fake.session(pace="off") as hilos:
        fake.remove(ID)
        found = await asyncio.gather(
            *(hilos.get_execution(ID) for _ in range(9)), return_exceptions=True
        )
        assert fake.requests == 1
        assert {type(error) for error in found} == {NotFoundError}
        assert len({id(error) for error in found}) == 9  # each with a traceback of its own


FAULTS = {
    "500": Fault.status(500),
    "503 that asks to wait for too long": Fault.status(503, retry_after=9_999),
    "reset": Fault.reset("headers"),
    "cut short": Fault.truncate(),
    "too slow": Fault.delay(60),
    "too large": Fault.body(b" " * 5_000),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_thirty_askers_of_one_failing_id_share_the_attempts_of_one(fault: Fault) -> None:
    options: dict[str, object] = {"attempt_timeout": 0.2, "max_response_bytes": 4_000}
    async with FakeHilos(faults=[fault], latency=0.01) as fake:
        async with fake.session(
            pace="off", retry=RetryPolicy(max_backoff=0.01), **options
        ) as hilos:
            with pytest.raises(HilosError) as alone:
                await hilos.get_execution(ID)
            of_one = fake.requests
            assert of_one == alone.value.attempts <= 4
            found = await asyncio.gather(
                *(hilos.get_execution(ID) for _ in range(30)),
                hilos.gather_executions([ID]),
                return_exceptions=True,
            )
            assert fake.requests == 2 * of_one
            *errors, batch = found
            assert isinstance(batch, ExecutionBatch)
            for error in (*errors, batch.errors[ID]):
                assert type(error) is type(alone.value)
                assert isinstance(error, HilosError)
                assert error.attempts == of_one
            assert len({id(error) for error in errors}) == 30  # each with a traceback of its own


async def test_whoever_allows_more_attempts_or_more_bytes_asks_for_himself() -> None:
    async with FakeHilos(faults=[Fault.status(500)], latency=0.01) as fake:
        async with fake.session(pace="off", retry=RetryPolicy(attempts=1)) as hilos:
            stubborn = hilos.with_options(retry=RetryPolicy(attempts=3, max_backoff=0.01))
            first, second = await asyncio.gather(
                hilos.get_execution(ID), stubborn.get_execution(ID), return_exceptions=True
            )
            assert isinstance(first, ServerError)
            assert isinstance(second, ServerError)
            assert (first.attempts, second.attempts) == (1, 3)


@pytest.mark.parametrize("victim", [0, 1])
async def test_a_cancelled_waiter_does_not_disturb_the_others(victim: int) -> None:
    async with FakeHilos(latency=0.05) as fake, fake.session(pace="off") as hilos:
        tasks = [asyncio.create_task(hilos.get_execution(ID)) for _ in range(4)]
        await asyncio.sleep(0.02)
        tasks[victim].cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(answer, FlowExecution) for answer in found) == 3
        assert tasks[victim].cancelled()
        assert fake.requests <= 2


async def test_a_failure_that_is_only_the_askers_own_is_not_shared() -> None:
    async with FakeHilos(latency=0.1) as fake, fake.session(pace="off") as hilos:
        hasty, patient = await asyncio.gather(
            hilos.get_execution(ID, timeout=0.03), hilos.get_execution(ID), return_exceptions=True
        )
        assert isinstance(hasty, DeadlineExceededError)
        assert isinstance(patient, FlowExecution)


async def test_a_follower_has_a_deadline_of_its_own() -> None:
    async with FakeHilos(latency=0.2) as fake, fake.session(pace="off") as hilos:
        patient, hasty = await asyncio.gather(
            hilos.get_execution(ID), hilos.get_execution(ID, timeout=0.03), return_exceptions=True
        )
        assert isinstance(patient, FlowExecution)
        assert isinstance(hasty, DeadlineExceededError)
        assert fake.requests == 1


async def test_a_failed_server_answers_nobody_and_each_policy_is_its_own() -> None:
    async with (
        FakeHilos(latency=0.01, faults=[Fault.status(500, times=1)]) as fake,
        fake.session(pace="off") as hilos,
    ):
        once = hilos.with_options(retry=type(hilos._client.bounds.retry)(attempts=1))
        first, second = await asyncio.gather(
            once.get_execution(ID), hilos.get_execution(ID), return_exceptions=True
        )
        assert isinstance(first, ServerError)
        assert isinstance(second, FlowExecution)


async def test_a_single_lookup_takes_a_batchs_out_of_the_queue() -> None:
    ids = [UUID(int=number) for number in range(1, 40)]
    async with FakeHilos() as fake, fake.session(pace=RateLimit(20)) as hilos:
        batch = asyncio.create_task(hilos.gather_executions(ids))
        await asyncio.sleep(0.1)
        asked = fake.requests
        await hilos.get_execution(ids[38])
        assert fake.requests <= asked + 3
        batch.cancel()
        await asyncio.gather(batch, return_exceptions=True)


async def test_max_age_accepts_an_answer_that_recent_and_zero_always_asks() -> None:
    async with FakeHilos() as fake, fake.session(pace="off") as hilos:
        first = await hilos.get_execution(ID, max_age=60)
        assert await hilos.get_execution(ID, max_age=60) is first
        batch = await hilos.gather_executions([ID, UUID(int=1)], max_age=60)
        assert batch.executions[ID] is first
        assert fake.requests == 2
        await hilos.get_execution(ID)
        await hilos.get_execution(ID, max_age=1e-9)
        assert fake.requests == 4


async def test_what_has_ended_may_be_kept_longer() -> None:
    async with FakeHilos() as fake, fake.session(pace="off") as hilos:
        fake.put(ID, status="COMPLETED")
        fake.put(UUID(int=1), status="RUNNING")
        for _ in range(3):
            await hilos.gather_executions([ID, UUID(int=1)], max_age_ended=math.inf)
        assert (fake.asked[ID], fake.asked[UUID(int=1)]) == (1, 3)


async def test_the_memory_of_answers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup_module, "_ANSWERS_KEPT", 10)
    ids = [UUID(int=number) for number in range(1, 31)]
    async with FakeHilos() as fake, fake.session(pace="off", max_concurrency=1) as hilos:
        await hilos.gather_executions(ids, max_age=60)
        await hilos.gather_executions(ids[20:], max_age=60)
        assert fake.requests == 30
        await hilos.gather_executions(ids[:20], max_age=60)
        assert fake.requests == 50


@pytest.mark.parametrize("age", [-1, math.nan])
async def test_an_impossible_age_is_refused_before_any_request(age: float) -> None:
    async with FakeHilos() as fake, fake.session() as hilos:
        with pytest.raises(ValueError, match="max_age"):
            await hilos.get_execution(ID, max_age=age)
        with pytest.raises(ValueError, match="max_age_ended"):
            await hilos.gather_executions([ID], max_age_ended=age)
        assert fake.requests == 0


async def test_a_batch_that_waited_for_anothers_reply_has_its_whole_timeout_left() -> None:
    async with FakeHilos(latency=0.6) as fake, fake.session(pace="off", timeout=1.0) as hilos:
        first = asyncio.create_task(hilos.with_options(timeout=30).gather_executions([ID]))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(hilos.gather_executions([ID]))
        await asyncio.sleep(0.5)
        first.cancel()
        assert await second
        assert fake.requests == 2


async def test_a_bound_of_ones_own_on_the_size_is_nobody_elses() -> None:
    async with FakeHilos(latency=0.05) as fake, fake.session(pace="off") as hilos:
        small = hilos.with_options(max_response_bytes=100)
        found = await asyncio.gather(
            small.get_execution(ID), hilos.get_execution(ID), return_exceptions=True
        )
        assert isinstance(found[0], ResponseTooLargeError)
        assert isinstance(found[1], FlowExecution)
