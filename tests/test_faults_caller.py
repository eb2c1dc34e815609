"""Faults of the caller and the machine: cancelling, closing, forking, clocks; and lasting illness.

Whatever is broken off leaves no task, no connection and no place taken, and the session goes on where
it may.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from hilos_async import (
    DeadlineExceededError,
    ExecutionBatch,
    HilosSession,
    RetryPolicy,
    ServerError,
    SessionClosedError,
    StatusError,
    TransportError,
)
from tests.faults import expected, is_idle, session
from tests.raw_server import (
    Action,
    Exchange,
    RawServer,
    close,
    deaf_listener,
    document,
    good,
    hang,
    http_date,
    ids,
    no_task_left,
    port_of,
    reply,
    reset,
    send,
    status,
    until,
    when,
)

pytestmark = pytest.mark.anyio

MANY = ids(40)
ONE, OTHER, THIRD = MANY[:3]


@pytest.fixture(autouse=True)
async def _tidy() -> AsyncIterator[None]:
    async with no_task_left():
        yield


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def assert_goes_on(hilos: HilosSession, server: RawServer) -> None:
    """Nothing is left of what was broken off, and a whole batch ends in results."""
    assert is_idle(hilos)
    await until(lambda: server.in_flight == 0)  # the connections of what was broken off are closed
    server.script([])
    server.then = good
    batch = await hilos.gather_executions(MANY)
    assert batch.executions == {id: expected(id) for id in MANY}
    assert is_idle(hilos)


# --- cancelling


async def test_cancel_mid_flight_a_lookup_closes_its_connection_and_the_session_goes_on() -> None:
    async with RawServer(then=hang) as server, session(server.url) as hilos:
        task = asyncio.create_task(hilos.get_execution(ONE))
        await until(lambda: len(server.requests) == 1)
        await cancelled(task)
        await assert_goes_on(hilos, server)


async def test_cancel_mid_flight_in_the_body_closes_the_connection_and_the_session_goes_on() -> (
    None
):
    half = reply(200, document(ONE))[:-40]
    async with RawServer([send(half)]) as server, session(server.url) as hilos:
        task = asyncio.create_task(hilos.get_execution(ONE))
        await until(lambda: server.sent == len(half))
        await cancelled(task)
        await until(lambda: server.open_connections == 0)
        await assert_goes_on(hilos, server)


async def test_cancel_mid_flight_a_batch_sends_nothing_more_and_the_session_goes_on() -> None:
    async with RawServer([good] * 3, then=hang) as server, session(server.url) as hilos:
        task = asyncio.create_task(hilos.gather_executions(MANY, max_concurrency=5))
        await until(lambda: len(server.requests) == 3 + 5)
        async with no_task_left():
            await cancelled(task)
        await until(lambda: server.in_flight == 0)
        assert len(server.requests) == 3 + 5
        await assert_goes_on(hilos, server)


async def test_cancel_while_queued_asks_nothing_and_disturbs_nobody() -> None:
    free = anyio.Event()
    async with (
        RawServer([when(free, good)]) as server,
        session(server.url, max_concurrency=1) as hilos,
    ):
        first, second, third = (
            asyncio.create_task(hilos.get_execution(id)) for id in (ONE, OTHER, THIRD)
        )
        await until(lambda: len(server.requests) == 1 and hilos.stats.waiting == 2)
        await cancelled(second)
        free.set()
        assert await first == expected(ONE)
        assert await third == expected(THIRD)
        assert server.asked == [ONE, THIRD]
        await assert_goes_on(hilos, server)


async def test_cancel_while_queued_a_batch_leaves_another_one_alone() -> None:
    free = anyio.Event()
    async with (
        RawServer([when(free, good)]) as server,
        session(server.url, max_concurrency=1) as hilos,
    ):
        first = asyncio.create_task(hilos.gather_executions(MANY[:10], max_concurrency=3))
        await until(lambda: len(server.requests) == 1 and hilos.stats.waiting == 2)
        second = asyncio.create_task(hilos.gather_executions(MANY[10:], max_concurrency=3))
        await until(lambda: hilos.stats.waiting == 5)
        await cancelled(second)
        free.set()
        batch = await first
        assert batch.executions == {id: expected(id) for id in MANY[:10]}
        assert sorted(server.asked) == MANY[:10]
        await assert_goes_on(hilos, server)


THROTTLED = status(429, b"", {"Retry-After": "30"})


async def test_cancel_while_paused_a_lookup_leaves_at_once_and_the_pause_stands() -> None:
    async with RawServer([THROTTLED]) as server, session(server.url, timeout=60) as hilos:
        task = asyncio.create_task(hilos.get_execution(ONE))
        await until(lambda: hilos.stats.paused_for > 0 and hilos.stats.waiting == 1)
        await cancelled(task)
        assert is_idle(hilos)
        with pytest.raises(DeadlineExceededError):
            await hilos.get_execution(OTHER, timeout=5)
        assert server.asked == [ONE]
        assert is_idle(hilos)


async def test_cancel_while_paused_a_batch_leaves_at_once_and_sends_nothing_more() -> None:
    async with RawServer(then=THROTTLED) as server, session(server.url) as hilos:
        task = asyncio.create_task(hilos.gather_executions(MANY, max_concurrency=5))
        await until(lambda: hilos.stats.paused_for > 0 and hilos.stats.waiting == 5)
        asked = len(server.requests)
        async with no_task_left():
            await cancelled(task)
        assert is_idle(hilos)
        assert len(server.requests) == asked <= 5


@pytest.mark.usefixtures("quick_time")
async def test_cancel_while_paused_the_one_that_would_go_first_lets_another_go_first() -> None:
    throttled = status(429, b"", {"Retry-After": "1"})
    async with RawServer([throttled]) as server, session(server.url, max_concurrency=1) as hilos:
        first, *rest = (asyncio.create_task(hilos.get_execution(id)) for id in MANY[:4])
        await until(lambda: hilos.stats.paused_for > 0 and hilos.stats.waiting == 4)
        await cancelled(first)
        assert await asyncio.gather(*rest) == [expected(id) for id in MANY[1:4]]
        assert server.asked == MANY[:4]
        await assert_goes_on(hilos, server)


@pytest.mark.usefixtures("quick_time")
async def test_cancel_while_backing_off_leaves_at_once_and_the_session_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: high)  # it backs off for 0.5 s
    async with (
        RawServer(then=status(500)) as server,
        session(server.url, retry=RetryPolicy()) as hilos,
    ):
        task = asyncio.create_task(hilos.gather_executions(MANY, max_concurrency=5))
        await until(lambda: hilos.stats.waiting == 5)
        await cancelled(task)
        await assert_goes_on(hilos, server)


# --- time that is not ours


@pytest.mark.usefixtures("quick_time")
async def test_outer_timeout_around_a_batch_ends_it_and_the_session_goes_on() -> None:
    async with RawServer([good] * 3, then=hang) as server, session(server.url) as hilos:
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.2):
                await hilos.gather_executions(MANY, max_concurrency=5)
        await assert_goes_on(hilos, server)


@pytest.mark.usefixtures("quick_time")
async def test_outer_timeout_of_asyncio_around_a_lookup_ends_it_and_the_session_goes_on() -> None:
    async with RawServer(then=hang) as server, session(server.url) as hilos:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await hilos.get_execution(ONE)
        await assert_goes_on(hilos, server)


@pytest.mark.usefixtures("quick_time")
async def test_outer_timeout_while_paused_ends_the_batch() -> None:
    async with RawServer(then=THROTTLED) as server, session(server.url) as hilos:
        with anyio.move_on_after(0.2) as scope:
            await hilos.gather_executions(MANY, max_concurrency=5)
        assert scope.cancelled_caught
        assert is_idle(hilos)


@pytest.mark.usefixtures("quick_time")
async def test_a_batchs_own_timeout_returns_what_there_is_and_the_session_goes_on() -> None:
    async with RawServer([good] * 3, then=hang) as server, session(server.url) as hilos:
        batch = await hilos.gather_executions(MANY, max_concurrency=5, timeout=0.2)
        assert list(batch.executions) == MANY[:3]
        assert list(batch.errors) == MANY[3:]
        assert {type(error) for error in batch.errors.values()} == {DeadlineExceededError}
        assert len(server.requests) == 3 + 5
        await assert_goes_on(hilos, server)


# --- a session that is closed


def assert_rest_is_closed(batch: ExecutionBatch, fetched: int) -> None:
    assert list(batch.executions) == MANY[:fetched]
    assert list(batch.errors) == MANY[fetched:]
    assert {type(error) for error in batch.errors.values()} == {SessionClosedError}


@pytest.mark.parametrize("attempts", [1, 4])
async def test_session_closed_mid_batch_the_rest_are_session_closed_errors(attempts: int) -> None:
    policy = RetryPolicy(attempts=attempts)
    async with (
        RawServer([good] * 3, then=hang) as server,
        session(server.url, retry=policy) as hilos,
    ):
        task = asyncio.create_task(hilos.gather_executions(MANY, max_concurrency=5))
        await until(lambda: len(server.requests) == 3 + 5)
        await hilos.aclose()
        assert_rest_is_closed(await task, 3)
        assert len(server.requests) == 3 + 5
        assert is_idle(hilos)
        with pytest.raises(SessionClosedError, match="make one per application"):
            await hilos.get_execution(ONE)
        await hilos.aclose()


async def test_session_closed_while_paused_the_rest_are_session_closed_errors() -> None:
    script = [good, good, THROTTLED]
    async with RawServer(script) as server, session(server.url, max_concurrency=1) as hilos:
        task = asyncio.create_task(hilos.gather_executions(MANY))
        await until(lambda: hilos.stats.paused_for > 0)
        await hilos.aclose()
        assert_rest_is_closed(await task, 2)
        assert len(server.requests) == 3
        assert is_idle(hilos)


@pytest.mark.usefixtures("quick_time")
async def test_session_closed_while_backing_off_the_rest_are_session_closed_errors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: high)  # it backs off for 0.5 s
    async with (
        RawServer(then=status(500)) as server,
        session(server.url, retry=RetryPolicy()) as hilos,
    ):
        task = asyncio.create_task(hilos.gather_executions(MANY, max_concurrency=5))
        await until(lambda: hilos.stats.waiting == 5)
        await hilos.aclose()
        assert_rest_is_closed(await task, 0)
        assert len(server.requests) == 5


async def test_session_closed_while_the_name_is_looked_up_the_rest_are_session_closed_errors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """aiohttp cancels its own name lookups when it closes: that is nobody's cancellation of ours."""
    asked = anyio.Event()

    class Slow(AbstractResolver):
        async def resolve(self, *args: object, **kwargs: object) -> list[ResolveResult]:
            asked.set()
            await asyncio.sleep(60)
            return []

        async def close(self) -> None:
            pass

    monkeypatch.setattr("aiohttp.connector.DefaultResolver", lambda *_, **__: Slow())
    async with session("https://hilos.invalid/api") as hilos:
        task = asyncio.create_task(hilos.gather_executions(MANY, max_concurrency=5))
        await asked.wait()
        await hilos.aclose()
        assert_rest_is_closed(await task, 0)
        assert is_idle(hilos)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses")
@pytest.mark.parametrize("attempts", [1, 4])
@pytest.mark.usefixtures("quick_time")
async def test_session_closed_while_connecting_the_rest_are_session_closed_errors(
    attempts: int,
) -> None:
    policy = RetryPolicy(attempts=attempts)
    with deaf_listener() as listener:
        url = f"http://127.0.0.1:{port_of(listener)}/api"
        async with session(url, retry=policy, attempt_timeout=0.3) as hilos:
            task = asyncio.create_task(hilos.gather_executions(MANY, max_concurrency=5))
            await until(lambda: hilos.stats.in_flight == 5)
            await asyncio.sleep(0.01)  # now they connect
            await hilos.aclose()
            assert_rest_is_closed(await task, 0)
            assert is_idle(hilos)


async def test_session_closed_in_the_moment_an_attempt_times_out() -> None:
    async with RawServer(then=hang) as server, session(server.url, attempt_timeout=0.05) as hilos:
        task = asyncio.create_task(hilos.get_execution(ONE))
        await until(lambda: len(server.requests) == 1)
        time.sleep(0.1)  # noqa: ASYNC251 - the timeout is due, and fires in the next turn
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # now it has fired, and the lookup has not heard of it
        await hilos.aclose()
        with pytest.raises(SessionClosedError):
            await task
        assert is_idle(hilos)


# --- fork


FORKED = """
import asyncio, os, signal, sys

sys.path.insert(0, sys.argv[1])
from hilos_async import HilosSession
from tests.raw_server import RawServer, ids

ONE, OTHER = ids(2)

def child(hilos):
    signal.alarm(20)
    for use in (lambda: hilos.get_execution(ONE), lambda: hilos.gather_executions([ONE])):
        try:
            asyncio.run(use())
        except RuntimeError as error:
            print("child:", error, flush=True)
    asyncio.run(own(hilos))

async def own(hilos):
    async with RawServer() as server, HilosSession("k", base_url=server.url) as mine:
        print("child's own:", (await mine.get_execution(ONE)).id == ONE, flush=True)

async def parent():
    async with RawServer() as server, HilosSession("k", base_url=server.url) as hilos:
        assert (await hilos.get_execution(ONE)).id == ONE
        pid = os.fork()
        if pid == 0:
            try:
                child(hilos)
            finally:
                os._exit(0)
        _, code = os.waitpid(pid, 0)
        print("child ended:", code, flush=True)
        batch = await hilos.gather_executions([ONE, OTHER])
        print("parent:", len(batch.executions), "results", flush=True)
        print("connections:", server.connections <= 2, "requests:", len(server.requests))

asyncio.run(parent())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
async def test_fork_with_an_open_session_the_child_is_told_and_the_parent_goes_on() -> None:
    done = await anyio.run_process(
        [sys.executable, "-W", "error", "-c", FORKED, str(Path(__file__).parent.parent)],
        check=False,
    )
    out = done.stdout.decode()
    assert done.stderr.decode() == ""
    assert out.count("child: this HilosSession was opened in another process") == 2
    assert "make a HilosSession in each process" in out
    assert "child's own: True" in out
    assert "child ended: 0" in out
    assert "parent: 2 results" in out
    assert "requests: 3" in out


# --- clocks


@pytest.mark.parametrize("by", [-1e9, 1e9], ids=["back 31 years", "on 31 years"])
async def test_system_clock_jump_changes_nothing(
    by: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_time = time.time
    jumped = anyio.Event()

    async def jump(exchange: Exchange) -> None:
        monkeypatch.setattr(time, "time", lambda: true_time() + by)
        jumped.set()
        await status(503)(exchange)

    async with RawServer([good, jump]) as server, session(server.url) as hilos:
        batch = await hilos.gather_executions(MANY, max_concurrency=3)
        assert jumped.is_set()
        assert batch.executions == {id: expected(id) for id in MANY}
        assert all(0 <= error.elapsed < 20 for error in batch.errors.values())
        assert hilos.stats.paused_for == 0


async def test_system_clock_jump_a_retry_after_date_is_measured_by_the_replys_own_clock() -> None:
    for wrong in (datetime(2001, 1, 1, tzinfo=UTC), datetime(2061, 1, 1, tzinfo=UTC)):
        headers = {
            "Date": http_date(wrong),
            "Retry-After": http_date(wrong + timedelta(seconds=30)),
        }
        async with (
            RawServer([status(429, b"", headers)]) as server,
            session(server.url, timeout=5) as hilos,
        ):
            with pytest.raises(DeadlineExceededError) as caught:
                await hilos.get_execution(ONE)
            assert isinstance(caught.value.__cause__, StatusError)
            assert caught.value.__cause__.retry_after == 30
            assert 25 < hilos.stats.paused_for < 31


# --- a server that stays ill


def every_third_fails(faults: list[Action]) -> Action:
    """Fail every third request, each time in another way."""
    requests = 0

    async def act(exchange: Exchange) -> None:
        nonlocal requests
        requests += 1
        if requests % 3:
            await good(exchange)
        else:
            await faults[requests // 3 % len(faults)](exchange)

    return act


ILLS: list[Action] = [
    status(500),
    reset(),
    status(502, b"<html>Bad Gateway</html>", {"Content-Type": "text/html"}),
    close(),
    close(reply(200, b'{"id":', length=4_000)),
    status(503),
    close(b"garbage\r\n\r\n"),
    status(504),
    reset(b"HTTP/1.1 200 OK\r\n"),
    status(408),
]


async def test_1_in_3_requests_failing_every_id_ends_in_a_result() -> None:
    """Ten minutes of it are this, longer.

    What becomes of an id depends on its own attempts and on the failures in a row just before, never
    on how long the batch has run: so thousands of requests, faster, show the same.
    """
    many = ids(1_500)
    stubborn = RetryPolicy(attempts=30, max_backoff=0.01)
    async with (
        RawServer(then=every_third_fails(ILLS)) as server,
        session(server.url, retry=stubborn) as hilos,
    ):
        batch = await hilos.gather_executions(many)
        assert not batch.errors
        assert list(batch.executions) == many
        assert all(execution.id == id for id, execution in batch.executions.items())
        assert hilos.stats.requests == len(server.requests)
        assert hilos.stats.retries == len(server.requests) - len(many)
        assert hilos.stats.retries == len(server.requests) // 3
        assert is_idle(hilos)


async def test_1_in_3_requests_failing_with_four_attempts_every_id_ends_in_one_of_the_two() -> None:
    many = ids(500)
    async with RawServer(then=every_third_fails(ILLS)) as server, session(server.url) as hilos:
        batch = await hilos.gather_executions(many)
        assert sorted([*batch.executions, *batch.errors], key=str) == many
        for error in batch.errors.values():
            assert isinstance(error, (TransportError, StatusError))
            # One more where a connection had been kept. A bare 503 among successes uses none up.
            assert error.attempts - error.uncounted in (4, 5)
        assert len(batch.errors) < 50  # (1/3)⁴ is six of 500
        assert is_idle(hilos)


def together(count: int, action: Action) -> Action:
    """Answer the first so many requests at once when all are there, later ones after a moment."""
    arrived = 0
    all_there = anyio.Event()

    async def act(exchange: Exchange) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == count:
            all_there.set()
        await all_there.wait()
        if arrived > count:
            await asyncio.sleep(0.002)  # so that another one's request would meet it here
        await action(exchange)

    return act


DEAD: dict[str, tuple[Callable[[], Action], type[Exception]]] = {
    "500": (lambda: status(500), ServerError),
    "reset": (reset, TransportError),
    "502 and closed": (lambda: close(reply(502, headers={"Connection": "close"})), ServerError),
}


@pytest.mark.parametrize("attempts", [1, 4])
@pytest.mark.parametrize(("make", "kind"), DEAD.values(), ids=DEAD.keys())
async def test_a_dead_server_gets_one_question_at_a_time(
    make: Callable[[], Action],
    kind: type[Exception],
    attempts: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The longest back-off each time: nobody is back before the tenth failure has been seen.
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    policy = RetryPolicy(attempts=attempts, max_backoff=0.01)
    async with (
        RawServer(then=together(10, make())) as server,
        session(server.url, retry=policy, max_concurrency=10) as hilos,
    ):
        batch = await hilos.gather_executions(MANY)
        assert list(batch.errors) == MANY
        assert {type(error) for error in batch.errors.values()} == {kind}
        assert Counter(server.asked) == dict.fromkeys(MANY, attempts)
        # Who has one attempt goes on to its next id: nine leave before the tenth failure is seen.
        before = 10 if attempts > 1 else 19
        later = server.requests[before:]
        beside = [request for request in later if any(at >= before for at in request.beside)]
        assert not beside, f"{len(beside)} of {len(later)} came beside another"
        assert is_idle(hilos)


async def test_a_dead_server_that_comes_back_ends_in_results_at_full_concurrency() -> None:
    patient = RetryPolicy(attempts=100, max_backoff=0.01)
    async with (
        RawServer(then=status(500)) as server,
        session(server.url, retry=patient, max_concurrency=10) as hilos,
    ):
        task = asyncio.create_task(hilos.gather_executions(MANY))
        await until(lambda: len(server.requests) >= 30)
        server.script([good])
        server.then = together(10, good)  # answers nobody until ten ask at once
        with anyio.fail_after(10):
            batch = await task
        assert batch.executions == {id: expected(id) for id in MANY}
        assert is_idle(hilos)
