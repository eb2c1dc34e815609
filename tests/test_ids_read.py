"""No id that was read vanishes: each ends as an execution or an error, or an exception comes out."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from typing import TYPE_CHECKING
from uuid import UUID

import aiohttp
import anyio
import pytest

from hilos_async import DeadlineExceededError, InvalidIdError, RateLimit
from hilos_async._many import watch
from hilos_async._pace.known import KnownPacer
from hilos_async.export import export_executions
from tests.faults import expected, is_idle, session
from tests.raw_server import RawServer, good, hang, ids, no_task_left, until, when

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from pathlib import Path

    from hilos_async import HilosSession
    from hilos_async._many.source import Ids

    Way = Callable[[HilosSession, Ids, Path], Coroutine[None, None, set[UUID | str]]]

pytestmark = pytest.mark.anyio

IDS = ids(25)


@pytest.fixture(autouse=True)
async def _tidy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(watch, "SOONEST", 0.01)
    async with no_task_left():
        yield


# --- the ways to look up many


async def gathered(hilos: HilosSession, given: Ids, path: Path) -> set[UUID | str]:
    batch = await hilos.gather_executions(given)
    return {*batch.executions, *batch.errors}


async def gathered_with_progress(hilos: HilosSession, given: Ids, path: Path) -> set[UUID | str]:
    batch = await hilos.gather_executions(given, on_progress=lambda progress: None)
    return {*batch.executions, *batch.errors}


async def streamed(hilos: HilosSession, given: Ids, path: Path) -> set[UUID | str]:
    async with hilos.stream_executions(given) as lookups:
        return {lookup.id async for lookup in lookups}


async def waited_for(hilos: HilosSession, given: Ids, path: Path) -> set[UUID | str]:
    batch = await hilos.wait_for_executions(given, until=lambda execution: True)
    assert not batch.errors
    return {*batch.executions}


async def exported(hilos: HilosSession, given: Ids, path: Path) -> set[UUID | str]:
    await export_executions(hilos, given, path / "out.ndjson")
    return {UUID(line[7:43]) for line in (path / "out.ndjson").read_text().splitlines()}


WAYS = [gathered, gathered_with_progress, streamed, waited_for, exported]
ALL_WAYS = pytest.mark.parametrize("way", WAYS)


# --- a CancelledError that nobody asked the batch for


async def with_a_cancelled_task() -> AsyncIterator[UUID]:
    for id in IDS[:5]:
        yield id
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    await task
    yield IDS[5]


@ALL_WAYS
async def test_a_generator_that_awaits_a_cancelled_task_ends_the_call(
    way: Way, tmp_path: Path
) -> None:
    async with RawServer() as server, session(server.url) as hilos:
        with pytest.raises(asyncio.CancelledError):
            await way(hilos, with_a_cancelled_task(), tmp_path)
        assert is_idle(hilos)


class CancellingPacer(KnownPacer):
    """A pacer whose third reservation awaits something that was cancelled."""

    def __init__(self) -> None:
        super().__init__(None)
        self.asked = 0

    async def reserve(self) -> float:
        self.asked += 1
        if self.asked == 3:
            raise asyncio.CancelledError
        return await super().reserve()


@ALL_WAYS
async def test_a_cancelled_error_out_of_a_pacer_ends_the_call(way: Way, tmp_path: Path) -> None:
    async with RawServer() as server, session(server.url, pace=CancellingPacer()) as hilos:
        with pytest.raises(asyncio.CancelledError):
            await way(hilos, IDS, tmp_path)
        assert is_idle(hilos)
        assert await hilos.get_execution(IDS[0]) == expected(IDS[0])


@ALL_WAYS
async def test_a_cancelled_error_out_of_a_trace_hook_ends_the_call(
    way: Way, tmp_path: Path
) -> None:
    seen = 0

    async def hook(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == 3:
            raise asyncio.CancelledError

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(hook)
    async with RawServer() as server, session(server.url, trace_configs=[trace]) as hilos:
        with pytest.raises(asyncio.CancelledError):
            await way(hilos, IDS, tmp_path)
        assert is_idle(hilos)


@ALL_WAYS
async def test_a_task_of_the_call_that_somebody_cancels_ends_the_call(
    way: Way, tmp_path: Path
) -> None:
    before = asyncio.all_tasks()
    async with RawServer(then=hang) as server, session(server.url) as hilos:
        server_tasks = asyncio.all_tasks() - before
        calling = asyncio.create_task(way(hilos, IDS, tmp_path))
        await until(lambda: server.in_flight > 0)
        ours = {
            task
            for task in asyncio.all_tasks() - before - server_tasks - {calling}
            if "_serve" not in repr(task.get_coro())
        }
        victim = min(ours, key=lambda task: task.get_name())
        victim.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert not calling.cancelling()  # it is the victim's, nobody cancelled the caller
        await until(lambda: is_idle(hilos))


async def test_a_cancelled_error_out_of_a_callback_comes_out() -> None:
    def give_up(*_: object) -> bool:
        raise asyncio.CancelledError

    async with RawServer() as server, session(server.url) as hilos:
        with pytest.raises(asyncio.CancelledError):
            await hilos.gather_executions(IDS, on_progress=give_up)
        with pytest.raises(asyncio.CancelledError):
            await hilos.wait_for_executions(IDS, until=give_up)
        with pytest.raises(asyncio.CancelledError):
            await hilos.wait_for_executions(IDS, on_change=give_up)
        assert is_idle(hilos)


# --- timers inside a generator


async def until_asyncios_timeout(queue: asyncio.Queue[UUID]) -> AsyncIterator[UUID]:
    try:
        async with asyncio.timeout(0.2):
            while True:
                yield await queue.get()
    except TimeoutError:
        pass


async def until_anyios_timeout(queue: asyncio.Queue[UUID]) -> AsyncIterator[UUID]:
    with anyio.move_on_after(0.2):
        while True:
            yield await queue.get()


async def until_each_wait_is_too_long(queue: asyncio.Queue[UUID]) -> AsyncIterator[UUID]:
    with contextlib.suppress(TimeoutError):
        while True:
            yield await asyncio.wait_for(queue.get(), 0.2)


TIMERS = [until_asyncios_timeout, until_anyios_timeout, until_each_wait_is_too_long]


@ALL_WAYS
@pytest.mark.parametrize("timed", TIMERS)
async def test_a_timeout_inside_a_generator_ends_the_ids_and_loses_none(
    way: Way,
    timed: Callable[[asyncio.Queue[UUID]], AsyncIterator[UUID]],
    tmp_path: Path,
) -> None:
    queue: asyncio.Queue[UUID] = asyncio.Queue()
    for id in IDS:
        queue.put_nowait(id)
    async with RawServer() as server, session(server.url) as hilos:
        assert await way(hilos, timed(queue), tmp_path) == set(IDS)


@pytest.mark.parametrize("timed", TIMERS[:2])
async def test_a_timer_that_rings_while_the_generator_does_not_run_is_still_its_own(
    timed: Callable[[asyncio.Queue[UUID]], AsyncIterator[UUID]],
) -> None:
    queue: asyncio.Queue[UUID] = asyncio.Queue()
    for id in IDS:
        queue.put_nowait(id)
    go_on = anyio.Event()
    async with RawServer(then=when(go_on, good)) as server, session(server.url) as hilos:
        batch = asyncio.create_task(hilos.gather_executions(timed(queue), max_concurrency=5))
        await until(lambda: server.in_flight == 5)
        await asyncio.sleep(0.3)  # the generator waits at its yield, and its time is up
        go_on.set()
        found = await batch
        assert list(found.executions) == IDS[: len(found)]
        assert found
        assert 5 <= len(found) <= 6


async def test_a_timeout_that_a_generator_does_not_catch_comes_out() -> None:
    async def timed() -> AsyncIterator[UUID]:
        async with asyncio.timeout(0.01):
            yield IDS[0]
            await asyncio.sleep(60)

    async with RawServer() as server, session(server.url) as hilos:
        with pytest.raises(TimeoutError):
            await hilos.gather_executions(timed())


# --- context


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="outside")


async def in_a_context() -> AsyncIterator[UUID]:
    token = VARIABLE.set("inside")
    try:
        for id in IDS:
            assert VARIABLE.get() == "inside"
            yield id
            await asyncio.sleep(0)
    finally:
        VARIABLE.reset(token)


def in_a_plain_context() -> Iterator[UUID]:
    token = VARIABLE.set("inside")
    try:
        for id in IDS:
            assert VARIABLE.get() == "inside"
            yield id
    finally:
        VARIABLE.reset(token)


async def in_a_scope() -> AsyncIterator[UUID]:
    with anyio.CancelScope(), anyio.fail_after(60):
        for id in IDS:
            yield id
            await asyncio.sleep(0)


def in_a_plain_scope() -> Iterator[UUID]:
    with anyio.CancelScope():  # noqa: ASYNC100 - nothing in it waits
        yield from IDS


async def in_a_task_group() -> AsyncIterator[UUID]:
    async with anyio.create_task_group() as group:
        group.start_soon(asyncio.sleep, 0)
        for id in IDS:
            yield id


async def in_a_span() -> AsyncIterator[UUID]:
    trace = pytest.importorskip("opentelemetry.trace")
    provider = pytest.importorskip("opentelemetry.sdk.trace").TracerProvider()
    with provider.get_tracer("test").start_as_current_span("ids") as span:
        for id in IDS:
            assert trace.get_current_span() is span
            yield id


def in_a_plain_span() -> Iterator[UUID]:
    trace = pytest.importorskip("opentelemetry.trace")
    provider = pytest.importorskip("opentelemetry.sdk.trace").TracerProvider()
    with provider.get_tracer("test").start_as_current_span("ids") as span:
        for id in IDS:
            assert trace.get_current_span() is span
            yield id


GENERATORS = [
    in_a_context,
    in_a_plain_context,
    in_a_scope,
    in_a_plain_scope,
    in_a_task_group,
    in_a_span,
    in_a_plain_span,
]


@ALL_WAYS
@pytest.mark.parametrize("generator", GENERATORS)
async def test_a_generator_keeps_its_context_and_its_task(
    way: Way, generator: Callable[[], Ids], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with RawServer() as server, session(server.url) as hilos:
        assert await way(hilos, generator(), tmp_path) == set(IDS)
    assert not caplog.records  # OpenTelemetry logs a context that it cannot leave


@pytest.mark.parametrize("generator", GENERATORS)
async def test_a_generator_that_is_not_read_to_its_end_leaves_its_context_in_its_task(
    generator: Callable[[], Ids], caplog: pytest.LogCaptureFixture
) -> None:
    async with RawServer() as server, session(server.url) as hilos:
        async with hilos.stream_executions(generator(), max_concurrency=2) as lookups:
            async for _ in lookups:
                break
    assert not caplog.records


# --- ends


async def test_a_none_among_the_ids_is_an_invalid_id_and_no_end() -> None:
    async def some() -> AsyncIterator[UUID]:
        for id in (IDS[0], None, IDS[1]):
            yield id  # type: ignore[misc]  # as somebody may give it

    async with RawServer() as server, session(server.url) as hilos:
        for given in ([IDS[0], None, IDS[1]], iter([IDS[0], None, IDS[1]]), some()):
            batch = await hilos.gather_executions(given)  # type: ignore[arg-type]
            assert list(batch.executions) == IDS[:2]
            assert list(batch.errors) == ["None"]
            assert isinstance(batch.errors["None"], InvalidIdError)


async def test_the_deadline_ends_a_generator_that_waits_and_it_may_wait_to_clean_up() -> None:
    steps: list[str] = []

    async def some() -> AsyncIterator[UUID]:
        try:
            yield IDS[0]
            await asyncio.sleep(60)
        finally:
            steps.append("cleaning up")
            await asyncio.sleep(0.01)
            steps.append("clean")

    async with RawServer() as server, session(server.url) as hilos:
        batch = await hilos.gather_executions(some(), timeout=0.3)
        assert [*batch.executions, *batch.errors] == IDS[:1]
        assert steps == ["cleaning up", "clean"]


async def test_a_deadline_that_has_passed_before_anything_began_is_no_cancellation() -> None:
    async with RawServer() as server, session(server.url) as hilos:
        for timeout in (1e-9, 1e-5, 1e-4, 1e-3):
            batch = await hilos.gather_executions(in_a_context(), timeout=timeout)
            assert set(batch.errors) <= set(IDS)
            assert {type(error) for error in batch.errors.values()} <= {DeadlineExceededError}
            async with hilos.stream_executions(in_a_context(), timeout=timeout) as lookups:
                assert {lookup.id async for lookup in lookups} <= set(IDS)


@pytest.mark.parametrize("swallowed", [1, 2])
async def test_a_generator_may_give_one_more_id_when_the_deadline_cancels_it(
    swallowed: int,
) -> None:
    async def some() -> AsyncIterator[UUID]:
        yield IDS[0]
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            for id in IDS[1 : 1 + swallowed]:
                yield id

    async with RawServer() as server, session(server.url) as hilos:
        batch = await hilos.gather_executions(some(), timeout=0.3)
        assert [*batch.executions, *batch.errors] == IDS[:2]
        assert isinstance(batch.errors[IDS[1]], DeadlineExceededError)


async def test_what_goes_wrong_in_a_generators_cleaning_up_comes_out() -> None:
    async def some() -> AsyncIterator[UUID]:
        try:
            yield IDS[0]
            await asyncio.sleep(60)
        finally:
            raise ValueError("of the cleaning up")

    async with RawServer() as server, session(server.url) as hilos:
        with pytest.raises(ValueError, match="of the cleaning up"):
            await hilos.gather_executions(some(), timeout=0.2)


async def test_a_generator_may_wait_to_clean_up_when_the_call_fails_or_is_cancelled() -> None:
    steps: list[str] = []

    async def some() -> AsyncIterator[UUID]:
        try:
            yield IDS[0]
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            steps.append("clean")

    def fail(progress: object) -> None:
        raise ZeroDivisionError

    async with RawServer() as server, session(server.url) as hilos:
        with pytest.raises(ZeroDivisionError):
            await hilos.gather_executions(some(), on_progress=fail)
        assert steps == ["clean"]
        task = asyncio.create_task(hilos.gather_executions(some()))
        await until(lambda: len(server.requests) == 2 and is_idle(hilos))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert steps == ["clean"] * 2
        with anyio.move_on_after(0.2):
            await hilos.gather_executions(some())
        assert steps == ["clean"] * 3


async def test_a_generator_is_read_only_as_fast_as_its_ids_are_asked() -> None:
    read: list[UUID] = []

    def some() -> Iterator[UUID]:
        for id in IDS:
            read.append(id)
            yield id

    async with RawServer(then=hang) as server, session(server.url) as hilos:
        task = asyncio.create_task(hilos.gather_executions(some(), max_concurrency=3))
        await until(lambda: server.in_flight == 3)
        assert read == IDS[:3]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class QuerySet:
    """As Django's: its ``len()`` and ``iter()`` ask the database and refuse to in an event loop."""

    def __len__(self) -> int:
        raise RuntimeError("You cannot call this from an async context")

    def __iter__(self) -> Iterator[UUID]:
        raise RuntimeError("You cannot call this from an async context")

    def __bool__(self) -> bool:
        raise RuntimeError("You cannot call this from an async context")

    async def __aiter__(self) -> AsyncIterator[UUID]:
        for id in IDS:
            yield id


@ALL_WAYS
async def test_a_query_set_of_django_is_read_by_async_for(way: Way, tmp_path: Path) -> None:
    async with RawServer() as server, session(server.url) as hilos:
        assert await way(hilos, QuerySet(), tmp_path) == set(IDS)


async def test_an_empty_generator_is_an_empty_batch() -> None:
    async def nothing() -> AsyncIterator[UUID]:
        for id in IDS[:0]:
            yield id

    async with RawServer() as server, session(server.url, pace=RateLimit(5)) as hilos:
        assert len(await hilos.gather_executions(nothing())) == 0
        assert len(await hilos.gather_executions(iter(()))) == 0
        assert not server.requests
