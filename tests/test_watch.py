"""Watching: every change that could be seen is seen once, and nothing is asked after its end."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from hilos_async import (
    AuthenticationError,
    Change,
    DeadlineExceededError,
    FlowExecution,
    FlowExecutionStatus,
    InvalidIdError,
    NotFoundError,
    RateLimit,
    RetryPolicy,
    ServerError,
    SessionClosedError,
)
from hilos_async._many import watch as watch_module
from hilos_async.testing import FakeHilos, Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_time")]

ENDED = ("COMPLETED", "CANCELED")


def uuids(count: int) -> list[UUID]:
    return [UUID(int=number) for number in range(1, count + 1)]


@pytest.fixture
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "SOONEST", 0.05)
    monkeypatch.setattr(watch_module, "LATEST", 0.2)


async def test_two_thousand_campaigns_through_all_states_under_a_pace() -> None:
    """All is seen, nothing is asked after its end, and no second has a wave of requests."""
    seen: dict[UUID | str, list[str]] = {}
    ends: Counter[UUID | str] = Counter()
    async with FakeHilos(lifetime=60.0) as fake:
        started = time.monotonic()
        async with fake.session(pace=RateLimit(50)) as hilos:
            async with hilos.watch_executions(uuids(2_000)) as changes:
                async for change in changes:
                    assert change.after is not None
                    seen.setdefault(change.id, []).append(str(change.after.status))
                    ends[change.id] += change.ended
        arrivals = list(fake.arrivals)
    assert ends == dict.fromkeys(uuids(2_000), 1)
    asked: dict[UUID, list[str]] = {}
    for at, id in arrivals:
        asked.setdefault(id, []).append(str(fake.document(id, at=at - started)["status"]))
    for id, statuses in asked.items():
        lasting = [status for status, polls in itertools.groupby(statuses) if len(list(polls)) > 1]
        assert set(lasting) <= set(seen[id])
        # The fake moves between an arrival and its answer: the last question may have come just
        # before the end that it saw.
        assert sum(status in ENDED for status in statuses) <= 1
    seconds = Counter(int(at - arrivals[0][0]) for at, _ in arrivals)
    mean = len(arrivals) / (arrivals[-1][0] - arrivals[0][0])
    assert max(seconds.values()) <= 1.2 * mean


@pytest.mark.usefixtures("_quickly")
async def test_a_change_tells_what_was_before_and_what_is_now() -> None:
    id = UUID(int=1)
    async with FakeHilos() as fake, fake.session(pace="off") as hilos:
        fake.put(id, status="RUNNING", completed=1)
        found: list[Change] = []
        async with hilos.watch_executions([id]) as changes:
            async for change in changes:
                found.append(change)
                status, completed = [("RUNNING", 2), ("COMPLETED", 3), ("", 0)][len(found) - 1]
                if status:
                    fake.put(id, status=status, completed=completed)
    first, second, third = found
    assert (first.before, first.fields, first.ended) == (None, {}, False)
    assert second.before == first.after
    assert second.fields["completed"] == (1, 2)
    assert "status" not in second.fields
    assert third.fields["status"] == (FlowExecutionStatus.RUNNING, FlowExecutionStatus.COMPLETED)
    assert third.ended


@pytest.mark.usefixtures("_quickly")
async def test_a_failed_lookup_is_told_once_and_asked_again_a_404_ends_its_id() -> None:
    good, flaky, missing = uuids(3)
    faults = [Fault.status(500, ids=[flaky], times=3)]
    async with FakeHilos(faults=faults) as fake:
        fake.put(good, status="COMPLETED")
        fake.put(flaky, status="COMPLETED")
        fake.remove(missing)
        once = RetryPolicy(attempts=1, max_backoff=0.01)
        async with fake.session(pace="off", retry=once) as hilos:
            batch_changes: list[Change] = []
            batch = await hilos.wait_for_executions(
                [good, flaky, missing, "nope", "nope"], on_change=batch_changes.append
            )
        of_flaky = [type(c.error) for c in batch_changes if c.id == flaky]
        assert of_flaky == [ServerError, type(None)]
        assert fake.asked == {good: 1, flaky: 4, missing: 1}
    assert list(batch.executions) == [good, flaky]
    assert {id: type(error) for id, error in batch.errors.items()} == {
        missing: NotFoundError,
        "nope": InvalidIdError,
    }


@pytest.mark.usefixtures("_quickly")
async def test_a_lookup_that_gives_up_in_a_pause_does_not_stop_the_watch() -> None:
    watched, other, later = uuids(3)
    refusal = Fault.status(429, retry_after=1, ids=[watched], times=1)
    async with FakeHilos(faults=[refusal]) as fake, fake.session(pace="off") as hilos:
        fake.put(watched, status="COMPLETED")
        waiting = asyncio.create_task(hilos.wait_for_executions([watched]))
        while not hilos.stats.paused_for:  # noqa: ASYNC110 - nothing tells when it begins
            await asyncio.sleep(0.001)
        with pytest.raises(DeadlineExceededError):
            await hilos.get_execution(other, timeout=0.01)
        async with asyncio.timeout(30):
            assert await waiting
        assert (await hilos.get_execution(later, timeout=30)).id == later


@pytest.mark.usefixtures("_quickly")
async def test_the_first_answer_after_a_failure_is_given_though_nothing_has_moved() -> None:
    [id] = uuids(1)
    seen: list[tuple[bool, bool]] = []
    async with FakeHilos() as fake:
        fake.put(id, status="RUNNING")
        async with fake.session(retry=RetryPolicy(attempts=1)) as hilos:
            async with hilos.watch_executions([id]) as changes:
                async for change in changes:
                    seen.append((change.error is None, bool(change.fields)))
                    if len(seen) == 1:
                        fake.faults = [Fault.status(500, times=2)]
                    elif len(seen) == 3:
                        break
    assert seen == [(True, False), (False, False), (True, False)]


async def test_until_says_what_is_enough() -> None:
    async with FakeHilos() as fake, fake.session(pace="off") as hilos:
        fake.put(UUID(int=1), status="RUNNING", num_contacts=10, completed=5)

        def half(execution: FlowExecution) -> bool:
            return (execution.completion_rate or 0) >= 0.5

        batch = await hilos.wait_for_executions([UUID(int=1)], until=half)
        assert batch.executions[UUID(int=1)].status == "RUNNING"
        assert fake.requests == 1


@pytest.mark.usefixtures("_quickly")
async def test_waiting_ends_with_its_timeout_and_tells_how_each_was_seen_last() -> None:
    running, ended, failing, unseen = uuids(4)
    faults = [Fault.status(500, ids=[failing]), Fault.delay(5.0, ids=[unseen])]
    async with FakeHilos(faults=faults) as fake:
        fake.put(running, status="RUNNING")
        fake.put(ended, status="CANCELED")
        once = RetryPolicy(attempts=1)
        async with fake.session(pace="off", retry=once) as hilos:
            batch = await hilos.wait_for_executions([running, ended, failing, unseen], timeout=0.6)
    assert list(batch.executions) == [ended]
    assert {type(error) for error in batch.errors.values()} == {DeadlineExceededError}
    assert "last seen: RUNNING" in str(batch.errors[running])
    assert isinstance(batch.errors[failing].__cause__, ServerError)
    assert "last seen: never" in str(batch.errors[unseen])


@pytest.mark.usefixtures("_quickly")
async def test_a_quiet_execution_is_asked_ever_less_often() -> None:
    async with FakeHilos() as fake, fake.session(pace="off") as hilos:
        fake.put(UUID(int=1), status="RUNNING")
        await hilos.wait_for_executions([UUID(int=1)], timeout=1.2)
        times = [at for at, _ in fake.arrivals]
        gaps = [b - a for a, b in itertools.pairwise(times)]
        assert len(gaps) <= 14  # at the soonest wait, without its getting longer: 24
        assert max(gaps) > 2 * gaps[0]


@pytest.mark.usefixtures("_quickly")
async def test_a_refused_key_ends_a_watch_and_a_wait_brings_what_had_ended() -> None:
    async with FakeHilos() as fake, fake.session(pace="off") as hilos:
        fake.put(UUID(int=1), status="COMPLETED")
        fake.put(UUID(int=2), status="RUNNING")

        def revoke(change: Change) -> None:
            if change.ended:
                fake.revoke()

        with pytest.raises(AuthenticationError) as caught:
            await hilos.wait_for_executions(uuids(2), on_change=revoke)
        assert caught.value.batch is not None
        assert list(caught.value.batch.results) == [UUID(int=1)]


@pytest.mark.usefixtures("_quickly")
async def test_closing_the_session_ends_a_watch() -> None:
    async with FakeHilos() as fake, fake.session(pace="off") as hilos:
        fake.put(UUID(int=1), status="RUNNING")
        with pytest.raises(SessionClosedError):
            async with hilos.watch_executions([UUID(int=1)]) as changes:
                async for _ in changes:
                    await hilos.aclose()


@pytest.mark.usefixtures("_quickly")
async def test_ids_may_come_from_an_async_iterable_and_nothing_to_watch_ends_at_once() -> None:
    async def ids() -> AsyncIterator[str]:
        for id in uuids(3):
            yield str(id)

    async with FakeHilos() as fake, fake.session(pace="off") as hilos:
        for id in uuids(3):
            fake.put(id, status="COMPLETED")
        assert len(await hilos.wait_for_executions(ids())) == 3
        assert len(await hilos.wait_for_executions([])) == 0


@pytest.mark.usefixtures("_quickly")
async def test_thousands_of_watched_ids_cost_no_task_each() -> None:
    async with FakeHilos() as fake, fake.session(pace=RateLimit(20)) as hilos:
        before = len(asyncio.all_tasks())
        async with hilos.watch_executions(uuids(3_000), max_concurrency=5) as changes:
            await anext(changes)
            ours = len(asyncio.all_tasks()) - before
        assert ours <= 5 + 1 + 3 * 5  # the fake's connections have tasks in this process too
