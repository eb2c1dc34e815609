"""A connection that the server closed while nobody used it is nobody's failure."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
import warnings
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import uvicorn

from hilos_async import (
    HilosSession,
    RateLimit,
    RetryPolicy,
    ServerError,
    SessionClosedError,
    TransportError,
)
from tests.asgi_server import listener
from tests.faults import KEY, expected, is_idle, session
from tests.raw_server import (
    RawServer,
    close,
    document,
    good,
    ids,
    reset,
    status,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from tests.raw_server import Exchange

pytestmark = pytest.mark.anyio

IDS = ids(50)
ONCE = RetryPolicy(attempts=1)
# A session of the library's own, and one that is given.
KINDS = pytest.mark.parametrize("is_given", [False, True], ids=["own", "given"])


@asynccontextmanager
async def a_session(
    url: str, is_given: bool, **options: object
) -> AsyncGenerator[HilosSession, None]:
    if not is_given:
        async with session(url, **options) as hilos:
            yield hilos
        return
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as given,
        session(url, session=given, **options) as hilos,
    ):
        yield hilos


class Uvicorn:
    """A real server on a thread of its own, which closes connections that are idle for a while."""

    def __init__(self, idle: float) -> None:
        self.asked: list[str] = []
        config = uvicorn.Config(self._app, log_config=None, interface="asgi3", lifespan="off")
        setattr(config, "timeout_keep_alive", idle)  # noqa: B010 - declared as whole seconds
        self._server = uvicorn.Server(config)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        id = scope["path"].rpartition("/")[2]
        self.asked.append(id)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        by_text = {str(id): document(id) for id in IDS}
        await send({"type": "http.response.body", "body": by_text[id]})

    @contextmanager
    def serving(self) -> Generator[str, None, None]:
        sock = listener()
        thread = threading.Thread(target=self._server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{sock.getsockname()[1]}/api"
        finally:
            self._server.should_exit = True
            thread.join()
            sock.close()

    def wait_until_all_are_closed(self) -> None:
        """Block, as a long computation would: this loop cannot notice that connections end."""
        while self._server.server_state.connections:
            time.sleep(0.01)


@KINDS
@pytest.mark.parametrize("attempts", [1, 4])
async def test_a_server_that_closed_idle_connections_while_the_loop_was_busy_costs_no_lookup(
    is_given: bool, attempts: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hilos_async")
    server = Uvicorn(0.5)
    with server.serving() as url:
        retry = RetryPolicy(attempts=attempts)
        async with a_session(url, is_given, retry=retry, max_concurrency=45) as hilos:
            assert await hilos.gather_executions(IDS)
            server.wait_until_all_are_closed()
            batch = await hilos.gather_executions(IDS)
            assert not batch.errors
            server.wait_until_all_are_closed()
            assert await hilos.get_execution(IDS[0]) == expected(IDS[0])
            stats = hilos.stats
    assert len(server.asked) == 2 * len(IDS) + 1  # the server has seen each request once
    told = [record.__dict__ for record in caplog.records if record.name == "hilos_async"]
    assert {record["hilos_event"] for record in told} == {"retry"}  # no server down, no pause
    assert {record["hilos_delay"] for record in told} == {0.0}  # and no back-off
    assert stats.requests > len(server.asked)  # those that no server saw are counted


class Closing:
    """Answers well, and resets each kept connection at its next request, as the race looks here."""

    def __init__(self) -> None:
        self.served: set[int] = set()

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.request.connection in self.served:
            exchange.reset()
            return
        self.served.add(exchange.request.connection)
        await good(exchange)


@KINDS
async def test_the_second_request_goes_within_the_pace_and_is_counted(is_given: bool) -> None:
    async with (
        RawServer(then=Closing()) as server,
        a_session(server.url, is_given, retry=ONCE, pace=RateLimit(200)) as hilos,
    ):
        for number in range(1, 6):
            assert await hilos.get_execution(IDS[0]) == expected(IDS[0])
            assert len(server.requests) == hilos.stats.requests
            assert hilos.stats.retries == len(server.requests) - number
        assert hilos.stats.retries >= 2
        assert is_idle(hilos)


@KINDS
@pytest.mark.parametrize("fault", [reset(), close()])
async def test_a_request_that_breaks_again_uses_up_an_attempt(is_given: bool, fault: Any) -> None:
    script = [good, fault, fault]
    async with (
        RawServer(script) as server,
        a_session(server.url, is_given, retry=ONCE) as hilos,
    ):
        await hilos.get_execution(IDS[0])
        with pytest.raises(TransportError) as caught:
            await hilos.get_execution(IDS[1])
        assert caught.value.attempts == 2
        assert server.asked == [IDS[0], IDS[1], IDS[1]]  # and no silent third one of aiohttp's
        assert await hilos.get_execution(IDS[2]) == expected(IDS[2])


@KINDS
async def test_a_status_after_a_stale_connection_uses_up_an_attempt_each_time(
    is_given: bool,
) -> None:
    async with (
        RawServer([good, reset()], then=status(500)) as server,
        a_session(server.url, is_given, retry=RetryPolicy(attempts=3, max_backoff=0.001)) as hilos,
    ):
        await hilos.get_execution(IDS[0])
        with pytest.raises(ServerError) as caught:
            await hilos.get_execution(IDS[1])
        assert caught.value.attempts == 4  # one met the stale connection, three were answered
        assert len(server.requests) == 5


@KINDS
async def test_a_reply_that_had_begun_is_a_failure_also_on_a_kept_connection(
    is_given: bool,
) -> None:
    cut = reset(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")
    async with (
        RawServer([good, cut]) as server,
        a_session(server.url, is_given, retry=ONCE) as hilos,
    ):
        await hilos.get_execution(IDS[0])
        with pytest.raises(TransportError):
            await hilos.get_execution(IDS[1])
        assert len(server.requests) == 2


@KINDS
async def test_a_new_connection_that_breaks_is_a_failure_and_asked_once(is_given: bool) -> None:
    async with (
        RawServer(then=reset()) as server,
        a_session(server.url, is_given, retry=ONCE) as hilos,
    ):
        with pytest.raises(TransportError) as caught:
            await hilos.get_execution(IDS[0])
        assert caught.value.attempts == len(server.requests) == 1


async def test_a_given_sessions_own_requests_are_asked_again_as_before() -> None:
    async with (
        RawServer([good, good, reset()]) as server,
        aiohttp.ClientSession() as given,
        session(server.url, session=given) as hilos,
    ):
        await hilos.get_execution(IDS[0])
        for _ in range(2):  # the second meets a closed connection; aiohttp asks again
            async with given.get(f"{server.url}/flow-execution/{IDS[1]}") as response:
                assert response.status == 200
        assert len(server.requests) == 4


async def test_stale_connections_do_not_make_a_server_look_dead() -> None:
    async with RawServer(then=Closing()) as server, session(server.url) as hilos:
        for _ in range(3):
            batch = await hilos.gather_executions(IDS, max_concurrency=20)
            assert batch
        assert hilos.stats.paused_for == 0
        await until(lambda: is_idle(hilos))
        assert KEY not in repr(hilos)


# --- a loop that has ended


async def _look_up(hilos: HilosSession) -> None:
    assert await hilos.gather_executions(IDS[:5])


def test_a_session_whose_loop_has_ended_is_closed_on_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Uvicorn(60)
    with server.serving() as url, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        hilos = session(url)
        asyncio.run(_look_up(hilos))
        asyncio.run(hilos.aclose())
        asyncio.run(hilos.aclose())  # and once more
        with pytest.raises(SessionClosedError):
            asyncio.run(_look_up_one(hilos))
        del hilos
        gc.collect()
    # asyncio itself says that a loop was closed before its sockets; nothing of aiohttp's is left open.
    assert not [str(one.message) for one in told if "client" in str(one.message).lower()]
    assert "Unclosed" not in caplog.text


async def _look_up_one(hilos: HilosSession) -> None:
    await hilos.get_execution(IDS[0])


async def test_a_session_whose_loop_still_runs_is_closed_there() -> None:
    async with RawServer() as server, session(server.url) as hilos:
        await hilos.get_execution(IDS[0])
        with pytest.raises(RuntimeError, match="on the event loop that it was used on"):
            await asyncio.to_thread(lambda: asyncio.run(hilos.aclose()))
