"""Batches: every id ends in exactly one place, in order, whatever happens to it."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilos_async import (
    AuthenticationError,
    DeadlineExceededError,
    DecodeError,
    ExecutionBatch,
    FlowExecutionStatus,
    HilosError,
    InvalidIdError,
    NotFoundError,
    PermissionDeniedError,
    Progress,
    RetryPolicy,
    ServerError,
    TransportError,
)
from hilos_async.testing import FakeHilos, Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from hilos_async import HilosSession

pytestmark = pytest.mark.anyio

QUICK = RetryPolicy(attempts=2, max_backoff=0.001)


def uuids(count: int, start: int = 1) -> list[UUID]:
    return [UUID(int=number) for number in range(start, start + count)]


def session(fake: FakeHilos, **options: object) -> HilosSession:
    return fake.session(**{"pace": "off", "retry": QUICK, **options})


# What may happen to an id, and the error it ends in; None: an execution.
FATES: dict[str, type[HilosError] | None] = {
    "good": None,
    "fails once": None,
    "missing": NotFoundError,
    "forbidden": PermissionDeniedError,
    "broken": ServerError,
    "reset": TransportError,
    "html": DecodeError,
    "malformed": InvalidIdError,
}
FAULTS: dict[str, Callable[[list[UUID]], Fault]] = {
    "fails once": lambda ids: Fault.status(503, ids=ids, times=1),
    "forbidden": lambda ids: Fault.status(403, ids=ids),
    "broken": lambda ids: Fault.status(500, ids=ids),
    "reset": lambda ids: Fault.reset("headers", ids=ids),
    "html": lambda ids: Fault.body(b"<html>", ids=ids),
}
SPELLINGS: list[Callable[[UUID], UUID | str]] = [
    lambda id: id,
    str,
    lambda id: id.hex,
    lambda id: str(id).upper(),
    lambda id: f"{{{id}}}",
]


@given(
    plan=st.lists(st.tuples(st.sampled_from(list(FATES)), st.sampled_from(SPELLINGS)), max_size=25),
    repeats=st.lists(st.integers(0, 24), max_size=10),
    workers=st.integers(1, 9),
    as_stream=st.booleans(),
)
@settings(max_examples=40)
def test_each_id_ends_in_exactly_one_of_executions_and_errors(
    plan: list[tuple[str, Callable[[UUID], UUID | str]]],
    repeats: list[int],
    workers: int,
    as_stream: bool,
) -> None:
    ids = uuids(len(plan))
    fates = {id: fate for id, (fate, _) in zip(ids, plan, strict=True)}

    def of(fate: str) -> list[UUID]:
        return [id for id in ids if fates[id] == fate]

    def given_as(index: int) -> UUID | str:
        id, (fate, spell) = ids[index], plan[index]
        return f"no-uuid-{id.int}" if fate == "malformed" else spell(id)

    given_ids = [
        given_as(index) for index in (*range(len(plan)), *(r for r in repeats if r < len(plan)))
    ]
    faults = [make(of(fate)) for fate, make in FAULTS.items() if of(fate)]

    async def main() -> None:
        async with FakeHilos(faults=faults) as fake, session(fake) as hilos:
            for id in of("missing"):
                fake.remove(id)

            async def stream() -> AsyncIterator[UUID | str]:
                for id in given_ids:
                    yield id

            batch = await hilos.gather_executions(
                stream() if as_stream else given_ids,
                max_concurrency=workers,
            )
        expected = [f"no-uuid-{id.int}" if fates[id] == "malformed" else id for id in ids]
        assert set(batch.executions) | set(batch.errors) == set(expected)
        assert len(batch) == len(expected)
        for key, id in zip(expected, ids, strict=True):
            kind = FATES[fates[id]]
            if kind is None:
                assert isinstance(key, UUID)
                assert batch.executions[key].id == key
            else:
                assert type(batch.errors[key]) is kind
                assert batch.errors[key].execution_id == key
        assert list(batch.executions) == [key for key in expected if key in batch.executions]
        assert list(batch.errors) == [key for key in expected if key in batch.errors]
        assert all(count == 1 for id, count in fake.asked.items() if fates[id] in ("good", "html"))

    asyncio.run(main())


async def test_len_truth_and_repr_say_how_it_went() -> None:
    async with FakeHilos() as fake, session(fake) as hilos:
        fake.remove(UUID(int=3))
        good = await hilos.gather_executions(uuids(2))
        bad = await hilos.gather_executions([*uuids(3), "x"])
    assert (len(good), bool(good), repr(good)) == (2, True, "<ExecutionBatch of 2: 2 fetched>")
    assert (len(bad), bool(bad)) == (4, False)
    assert repr(bad) == "<ExecutionBatch of 4: 2 fetched, 1 × NotFoundError, 1 × InvalidIdError>"
    good.raise_for_errors()
    with pytest.raises(ExceptionGroup, match="2 of 4 lookups failed") as caught:
        bad.raise_for_errors()
    assert [type(error) for error in caught.value.exceptions] == [NotFoundError, InvalidIdError]
    assert good == ExecutionBatch(good.executions, {})


async def test_by_status_groups_in_the_order_of_the_ids() -> None:
    async with FakeHilos() as fake, session(fake) as hilos:
        for id, status in zip(
            uuids(4), ["RUNNING", "COMPLETED", "RUNNING", "ARCHIVED"], strict=True
        ):
            fake.put(id, status=status)
        groups = (await hilos.gather_executions(uuids(4))).by_status()
    assert {status: [e.id for e in group] for status, group in groups.items()} == {
        FlowExecutionStatus.RUNNING: [UUID(int=1), UUID(int=3)],
        FlowExecutionStatus.COMPLETED: [UUID(int=2)],
        FlowExecutionStatus("ARCHIVED"): [UUID(int=4)],
    }


@pytest.mark.parametrize(
    "ids", ["a1b2c3d4-0000-4000-8000-1234567890ab", b"x", UUID(int=1), 5, None]
)
async def test_what_is_no_iterable_of_ids_is_a_type_error_that_shows_the_fix(ids: object) -> None:
    async with FakeHilos() as fake, session(fake) as hilos:
        with pytest.raises(TypeError, match="ids must be a"):
            await hilos.gather_executions(ids)  # type: ignore[arg-type]  # wrong on purpose
        assert fake.requests == 0


@pytest.mark.parametrize("options", [{"max_concurrency": 0}, {"timeout": 0}, {"timeout": -1}])
async def test_an_impossible_bound_is_refused_before_any_request(options: dict[str, int]) -> None:
    async with FakeHilos() as fake, session(fake) as hilos:
        with pytest.raises(ValueError, match=next(iter(options))):
            await hilos.gather_executions(uuids(3), **options)  # type: ignore[arg-type]  # any of them
        assert fake.requests == 0


async def test_an_empty_batch_is_a_batch() -> None:
    async with FakeHilos() as fake, session(fake) as hilos:
        assert len(await hilos.gather_executions([])) == 0
        assert fake.requests == 0


async def test_ten_thousand_pending_ids_cost_no_more_tasks_than_max_concurrency() -> None:
    async with FakeHilos() as fake, session(fake) as hilos:
        here = len(asyncio.all_tasks())
        serving_and_working = (
            3 * 7 + here + 5
        )  # a connection has tasks of the server's in this process
        most = 0

        def ids() -> Iterator[UUID]:
            nonlocal most
            for id in uuids(10_000):
                most = max(most, len(asyncio.all_tasks()))
                yield id

        batch = await hilos.gather_executions(ids(), max_concurrency=7)
        assert len(batch) == 10_000
        assert bool(batch)
        assert most <= serving_and_working
        assert fake.max_in_flight <= 7


@pytest.mark.usefixtures("quick_time")
async def test_cancelling_a_batch_leaves_no_task_no_connection_and_no_warning_behind() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with FakeHilos(latency=0.05) as fake, session(fake) as hilos:
            before = asyncio.all_tasks()
            with anyio.move_on_after(0.2):
                await hilos.gather_executions(uuids(10_000), max_concurrency=20)
            assert hilos.stats.in_flight == hilos.stats.waiting == 0
            while fake.in_flight:  # noqa: ASYNC110 - the server notices on its own
                await asyncio.sleep(0.001)
            assert len(await hilos.gather_executions(uuids(30))) == 30
            ours = [
                task for task in asyncio.all_tasks() - before if "hilos" in repr(task.get_coro())
            ]
            assert ours == []
        gc.collect()


@pytest.mark.usefixtures("quick_time")
async def test_what_fits_into_the_timeout_is_returned_and_the_rest_says_so() -> None:
    async with FakeHilos(latency=0.05) as fake, session(fake) as hilos:
        batch = await hilos.gather_executions(uuids(500), max_concurrency=5, timeout=0.3)
    assert len(batch) == 500
    assert 0 < len(batch.executions) < 500
    assert {type(error) for error in batch.errors.values()} == {DeadlineExceededError}
    assert all(error.execution_id == id for id, error in batch.errors.items())
    assert fake.requests < 100


@pytest.mark.usefixtures("quick_time")
async def test_an_async_source_that_stalls_does_not_outlive_the_timeout() -> None:
    async def stalling() -> AsyncIterator[UUID]:
        yield UUID(int=1)
        await asyncio.sleep(60)
        yield UUID(int=2)

    async with FakeHilos() as fake, session(fake) as hilos:
        batch = await hilos.gather_executions(stalling(), timeout=0.3)
    assert list(batch.executions) == [UUID(int=1)]


async def test_ids_are_read_only_as_fast_as_they_are_asked() -> None:
    read = 0

    def ids() -> Iterator[UUID]:
        nonlocal read
        for id in uuids(100):
            read += 1
            assert read <= fake.requests + 4
            yield id

    async with FakeHilos() as fake, session(fake) as hilos:
        assert await hilos.gather_executions(ids(), max_concurrency=3)
    assert read == 100


async def test_an_error_of_the_ids_iterable_comes_out_plain() -> None:
    def ids() -> Iterator[UUID]:
        yield from uuids(3)
        raise ZeroDivisionError

    async with FakeHilos() as fake, session(fake) as hilos:
        with pytest.raises(ZeroDivisionError):
            await hilos.gather_executions(ids())
        assert await hilos.gather_executions(uuids(3))


async def test_progress_counts_every_id_once_and_ends_at_the_total() -> None:
    seen: list[Progress] = []
    async with FakeHilos() as fake, session(fake) as hilos:
        fake.remove(UUID(int=1))
        await hilos.gather_executions([*uuids(20), *uuids(5), "x", "x"], on_progress=seen.append)
    assert [progress.done for progress in seen] == list(range(1, 22))
    last = seen[-1]
    assert (last.done, last.failed, last.total) == (21, 2, 21)
    assert last.rate > 0
    assert last.time_left == 0


async def test_progress_of_a_source_without_a_length_has_no_total() -> None:
    seen: list[Progress] = []
    async with FakeHilos() as fake, session(fake) as hilos:
        await hilos.gather_executions(iter(uuids(3)), on_progress=seen.append)
    assert [(progress.total, progress.time_left) for progress in seen] == [(None, None)] * 3


def test_progress_without_elapsed_time_has_no_rate() -> None:
    assert Progress(done=1, failed=0, total=2, elapsed=0.0).rate == 0.0
    assert Progress(done=1, failed=0, total=2, elapsed=0.0).time_left is None
    assert Progress(done=1, failed=0, total=3, elapsed=2.0).time_left == 4.0


async def test_an_error_in_on_progress_is_the_callers_and_surfaces() -> None:
    def explode(progress: Progress) -> None:
        raise ZeroDivisionError

    async with FakeHilos() as fake, session(fake) as hilos:
        with pytest.raises(ZeroDivisionError) as caught:
            await hilos.gather_executions(uuids(50), on_progress=explode)
        assert not isinstance(caught.value.__context__, BaseExceptionGroup)
        assert await hilos.gather_executions(uuids(3))


async def test_a_refused_key_stops_the_batch_and_brings_what_was_fetched() -> None:
    async with FakeHilos(latency=0.01) as fake, session(fake) as hilos:

        def revoke(progress: Progress) -> None:
            if progress.done == 20:
                fake.revoke()

        with pytest.raises(AuthenticationError, match="401") as caught:
            await hilos.gather_executions(uuids(500), max_concurrency=4, on_progress=revoke)
        batch = caught.value.batch
        assert batch is not None
        assert 20 <= len(batch.results) <= 24
        assert not batch.errors
        assert fake.requests <= 28
        assert hilos.stats.in_flight == hilos.stats.waiting == 0


async def test_an_id_of_another_type_is_an_invalid_id_of_its_own() -> None:
    async with FakeHilos() as fake, session(fake) as hilos:
        batch = await hilos.gather_executions([uuid4(), 5, None])  # type: ignore[list-item]  # on purpose
    assert list(batch.errors) == ["5", "None"]
    assert len(batch.executions) == 1


async def test_the_loop_runs_on_while_a_batch_settles_ids_that_need_no_request() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with FakeHilos() as fake, fake.session(pace="off") as hilos:
        counting = asyncio.create_task(count())
        batch = await hilos.gather_executions([f"no id {n}" for n in range(10_000)])
        counting.cancel()
        assert len(batch.errors) == 10_000
        assert turns >= 15


async def test_half_a_surrogate_pair_among_the_ids_costs_only_itself() -> None:
    async with FakeHilos() as fake, fake.session(pace="off") as hilos:
        batch = await hilos.gather_executions(["\ud800", UUID(int=1)])
        assert list(batch.errors) == ["\\ud800"]
        assert len(batch.executions) == 1
        assert b"ud800" in batch.to_json()
