"""A batch or a watch answered as it completes: NDJSON and server-sent events over the socket."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
import pytest
from fastapi import BackgroundTasks, FastAPI
from fastapi.middleware.gzip import GZipMiddleware

from hilos_async import Change, HilosSession, Lookup, Stream
from hilos_async.fastapi import (
    EventsResponse,
    HilosDep,
    NDJSONResponse,
    hilos_lifespan,
    install_exception_handlers,
)
from hilos_async.testing import FakeHilos, Fault
from tests.asgi_server import serving
from tests.raw_server import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.anyio

IDS = [f"a1b2c3d4-0000-4000-8000-{number:012}" for number in range(20)]
ENDED = "a1b2c3d4-0000-4000-8000-000000000404"


class Opened:
    """An app with one stream to order, and what the endpoint made of it."""

    def __init__(self, fake: FakeHilos) -> None:
        self.app = FastAPI(lifespan=hilos_lifespan(self._session))
        self._fake = fake
        self.results: Stream[Lookup] | Stream[Change]

    def _session(self) -> HilosSession:
        self.hilos = self._fake.session()
        return self.hilos

    def lookups(self, ids: list[str], response: type[NDJSONResponse | EventsResponse]) -> FastAPI:
        @self.app.get("/")
        async def stream() -> response:  # type: ignore[valid-type]  # an argument is no type to mypy
            self.results = self.hilos.stream_executions(ids)
            return response(self.results)

        return self.app

    def changes(self, ids: list[str], until: Callable[[object], bool] | None = None) -> FastAPI:
        @self.app.get("/")
        async def stream() -> EventsResponse:
            self.results = self.hilos.watch_executions(ids, until=until)
            return EventsResponse(self.results)

        return self.app

    async def is_over(self) -> None:
        """Wait until the stream's task has ended and nothing is asked any more."""
        task = self.results._task
        assert task is not None
        await until(task.done)
        await until(lambda: not self._fake.in_flight)
        assert (self.hilos.stats.in_flight, self.hilos.stats.waiting) == (0, 0)


def events(text: str) -> list[dict[str, str]]:
    """The server-sent events of a body, comments among them, as the standard reads them."""
    found: list[dict[str, str]] = []
    assert text.endswith("\n\n")
    for block in text.removesuffix("\n\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append({name or "comment": value for name, value in fields.items()})
    return found


async def test_ndjson_has_a_line_for_each_id_and_errors_among_them(
    fake: FakeHilos, client: aiohttp.ClientSession
) -> None:
    fake.remove(IDS[3])
    fake.put(IDS[0], status_reason="line\u2028separator\x85next line\r\nend")
    opened = Opened(fake)
    async with serving(opened.lookups([*IDS, "nonsense"], NDJSONResponse)) as url:
        async with client.get(url) as reply:
            assert reply.content_type == "application/x-ndjson"
            assert reply.headers["X-Accel-Buffering"] == "no"
            lines = (await reply.text()).splitlines()
    lookups: dict[str, Any] = {line["id"]: line for line in map(json.loads, lines)}
    assert lookups.keys() == {*IDS, "nonsense"}
    statuses = {id: line["error"]["status"] for id, line in lookups.items() if line["error"]}
    assert statuses == {IDS[3]: 404, "nonsense": 400}
    assert all(line["execution"] is None for id, line in lookups.items() if id in statuses)
    assert lookups[IDS[0]]["execution"]["status_reason"].startswith("line\u2028separator\x85")


async def test_a_watch_is_events_and_tells_its_end(
    fake: FakeHilos, client: aiohttp.ClientSession
) -> None:
    fake.put(ENDED, status="COMPLETED")
    opened = Opened(fake)
    async with serving(opened.changes(["nonsense", ENDED])) as url, client.get(url) as reply:
        assert reply.content_type == "text/event-stream"
        assert reply.headers["Cache-Control"] == "no-cache"
        *changes, end = events(await reply.text())
    assert end == {"event": "end", "data": "{}"}
    by_id = {change["id"]: change for change in (json.loads(event["data"]) for event in changes)}
    assert by_id[ENDED]["after"]["status"] == "COMPLETED"
    assert by_id["nonsense"]["error"]["status"] == 400
    assert all(change["ended"] for change in by_id.values())


@pytest.mark.parametrize("response", [NDJSONResponse, EventsResponse])
async def test_a_middleware_that_compresses_holds_no_result_back(
    response: type[NDJSONResponse | EventsResponse],
    fake: FakeHilos,
    client: aiohttp.ClientSession,
) -> None:
    fake.faults.append(Fault.delay(60, ids=[IDS[1]]))
    opened = Opened(fake)
    app = opened.lookups(IDS[:2], response)
    app.add_middleware(GZipMiddleware, minimum_size=0)
    async with serving(app) as url:
        async with client.get(url, headers={"Accept-Encoding": "gzip"}) as reply:
            assert reply.headers["Content-Encoding"] == "identity"
            with anyio.fail_after(20):
                first = await reply.content.readline()
        await opened.is_over()
    assert json.loads(first.removeprefix(b"data: "))["id"] == IDS[0]


@pytest.mark.parametrize("response", [NDJSONResponse, EventsResponse])
async def test_a_client_that_leaves_ends_the_lookups(
    response: type[NDJSONResponse | EventsResponse],
    fake: FakeHilos,
    client: aiohttp.ClientSession,
) -> None:
    fake.faults.append(Fault.delay(60, ids=IDS[1:]))
    opened = Opened(fake)
    async with serving(opened.lookups(IDS, response)) as url:
        reply = await client.get(url)
        assert IDS[0].encode() in await reply.content.readline()
        await until(lambda: fake.in_flight >= 5)  # no limit is known: a handful goes at first
        reply.close()
        await opened.is_over()


async def test_a_quiet_watch_ends_with_its_client_too(
    fake: FakeHilos, client: aiohttp.ClientSession
) -> None:
    """Nothing is sent for seconds: nobody would notice by sending."""
    opened = Opened(fake)
    async with serving(opened.changes([ENDED], until=lambda _: False)) as url:
        reply = await client.get(url)
        assert ENDED.encode() in await reply.content.readline()
        reply.close()
        await opened.is_over()


async def test_silence_is_broken_by_comments(
    fake: FakeHilos, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no result is lost to them."""
    monkeypatch.setattr(EventsResponse, "_patience", 0.002)
    fake.faults.append(Fault.delay(0.05))
    opened = Opened(fake)
    async with serving(opened.lookups(IDS, EventsResponse)) as url, client.get(url) as reply:
        found = events(await reply.text())
    assert any("comment" in event for event in found)
    told = [json.loads(event["data"]) for event in found if "data" in event]
    assert sorted(lookup["id"] for lookup in told[:-1]) == IDS
    assert told[-1] == {}


async def test_a_refused_key_is_the_last_item_and_the_end(
    fake: FakeHilos, client: aiohttp.ClientSession
) -> None:
    fake.revoke()
    opened = Opened(fake)
    async with serving(opened.lookups(IDS, EventsResponse)) as url, client.get(url) as reply:
        text = await reply.text()
    last, end = events(text)
    item = json.loads(last["data"])
    assert (item["id"], item["error"]["status"]) == (None, 502)
    assert end["event"] == "end"
    assert "oken" not in text


async def test_an_error_of_your_own_comes_out_as_it_is(
    fake: FakeHilos, client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    async def ids() -> AsyncIterator[str]:
        yield IDS[0]
        raise ValueError("my database is gone")

    app = FastAPI(lifespan=hilos_lifespan(fake.session))
    install_exception_handlers(app)

    @app.get("/")
    async def stream(hilos: HilosDep) -> NDJSONResponse:
        return NDJSONResponse(hilos.stream_executions(ids()))

    async with serving(app) as url:
        with pytest.raises(aiohttp.ClientPayloadError):
            async with client.get(url) as reply:
                await reply.text()
    assert "ValueError: my database is gone" in caplog.text
    assert "ExceptionGroup" not in caplog.text


async def test_a_closed_session_sends_the_browser_back_soon(
    fake: FakeHilos, client: aiohttp.ClientSession
) -> None:
    """No ``end``: the browser connects again, to the process that comes after this one."""
    fake.faults.append(Fault.delay(60))
    opened = Opened(fake)
    async with serving(opened.changes([ENDED])) as url, client.get(url) as reply:
        await until(lambda: fake.in_flight == 1)
        await opened.hilos.aclose()
        item, retry = events(await reply.text())
    assert json.loads(item["data"])["error"]["status"] == 503
    assert retry == {"retry": "1000"}


async def test_a_background_task_runs_after_the_last_result(
    fake: FakeHilos, client: aiohttp.ClientSession
) -> None:
    app = FastAPI(lifespan=hilos_lifespan(fake.session))
    done = asyncio.Event()

    @app.get("/", response_class=NDJSONResponse)
    async def stream(hilos: HilosDep, tasks: BackgroundTasks) -> NDJSONResponse:
        tasks.add_task(done.set)
        return NDJSONResponse(hilos.stream_executions(IDS))

    async with serving(app) as url, client.get(url) as reply:
        assert len((await reply.text()).splitlines()) == len(IDS)
        await asyncio.wait_for(done.wait(), 60)
