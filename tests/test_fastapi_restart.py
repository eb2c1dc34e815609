"""A uvicorn process that gets SIGTERM under load, and the one that comes after it."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from hilos_async.testing import FakeHilos, Fault
from tests.asgi_server import WIRING, Worker, listener
from tests.raw_server import until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

IDS = [f"a1b2c3d4-0000-4000-8000-{number:012}" for number in range(400)]
CLIENTS = 8
# What nothing may leave behind on its way out.
TRACES = [
    "ERROR",
    "Traceback",
    "Unclosed",
    "unclosed",
    "never retrieved",
    "never awaited",
    "Task was destroyed",
    "ResourceWarning",
]

STREAM = """
from hilos_async.fastapi import EventsResponse


@app.get("/events")
async def events(hilos: HilosDep) -> EventsResponse:
    return EventsResponse(hilos.watch_executions(["{id}"], until=lambda _: False))
"""


class Load:
    """Clients that ask one after another, each time on a new connection, until told to stop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.stopped = False
        self.answered = self.not_taken = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(CLIENTS):
                tasks.create_task(self._ask(number))

    async def _ask(self, number: int) -> None:
        one, many = IDS[number], IDS[number * 20 : number * 20 + 20]
        # A new connection each time waits in the shared socket while no process listens there.
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True)
        ) as client:
            while not self.stopped:
                if (document := await self._get(client, f"/campaigns/{one}")) is not None:
                    assert document["id"] == one
                if (batch := await self._get(client, "/campaigns", id=many)) is not None:
                    assert len(batch["executions"]) == len(many)

    async def _get(
        self, client: aiohttp.ClientSession, path: str, **query: list[str]
    ) -> dict[str, Any] | None:
        try:
            reply = await client.get(self._url + path, params=query)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            self.not_taken += 1  # closed before it took the request
            return None
        async with reply:
            assert reply.status == 200
            document: dict[str, Any] = await reply.json()  # an answer that began comes to its end
        self.answered += 1
        return document


async def test_sigterm_under_load_finishes_what_is_under_way(tmp_path: Path) -> None:
    """Not one answer is cut short, nothing is left behind, and the next process goes on."""
    (tmp_path / "main.py").write_text(WIRING.text, encoding="utf-8")
    async with FakeHilos(faults=[Fault.delay(0.02)]) as fake:
        with listener() as sock:
            first = await Worker.start(tmp_path, sock, fake)
            load = Load(f"http://127.0.0.1:{sock.getsockname()[1]}")
            asking = asyncio.create_task(load.run())
            await until(lambda: load.answered >= CLIENTS and fake.in_flight >= 5)
            first.terminate()
            code = await first.ended()
            so_far = load.answered
            await until(lambda: not fake.in_flight and not fake.open_connections)
            second = await Worker.start(tmp_path, sock, fake)
            await until(lambda: load.answered >= so_far + 3 * CLIENTS)
            load.stopped = True
            await asking
            second.terminate()
            assert await second.ended() == code
    # uvicorn puts its own handlers back and sends itself the signal; before 0.29 it just ended.
    assert code in (-signal.SIGTERM, 0)
    # Connections of the very moment of the signal; what was in flight then was all answered.
    assert load.not_taken <= CLIENTS
    for log in (first.log, second.log):
        assert "Application shutdown complete" in log
        assert not [trace for trace in TRACES if trace in log], log
        assert fake.token not in log


async def test_a_stream_ends_with_the_time_uvicorn_gives_it(tmp_path: Path) -> None:
    """Its lookups end and the session is closed; that a task was cancelled, uvicorn itself says."""
    text = WIRING.text + STREAM.replace("{id}", IDS[0])
    (tmp_path / "main.py").write_text(text, encoding="utf-8")
    async with FakeHilos() as fake:
        with listener() as sock:
            options = ("--timeout-graceful-shutdown", "0")
            worker = await Worker.start(tmp_path, sock, fake, *options)
            url = f"http://127.0.0.1:{sock.getsockname()[1]}/events"
            async with aiohttp.ClientSession() as client, client.get(url) as reply:
                line = await reply.content.readline()
                assert json.loads(line.removeprefix(b"data: "))["id"] == IDS[0]
                worker.terminate()
                code = await worker.ended()
        await until(lambda: not fake.open_connections)
    assert code in (-signal.SIGTERM, 0)
    assert "Application shutdown complete" in worker.log
    assert not [trace for trace in TRACES[2:] if trace in worker.log], worker.log
