"""Who hears of an end: a watch of a session that closes, and no server of a batch that had no time."""

from __future__ import annotations

import asyncio
import logging

import anyio
import pytest

from hilos_async import DeadlineExceededError, SessionClosedError
from hilos_async._many import watch
from tests.faults import is_idle, session
from tests.raw_server import RawServer, hang, ids, until

pytestmark = pytest.mark.anyio

IDS = ids(30)


async def test_a_watch_with_nothing_due_hears_at_once_that_the_session_closes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "SOONEST", 3_600.0)
    async with RawServer() as server, session(server.url) as hilos:
        waiting = asyncio.create_task(
            hilos.wait_for_executions(IDS[:1], until=lambda execution: False)
        )
        await until(lambda: len(server.requests) == 1 and is_idle(hilos))
        await hilos.aclose()
        with anyio.fail_after(60), pytest.raises(SessionClosedError):
            await waiting
        assert len(server.requests) == 1


async def test_a_batch_whose_own_timeout_cut_its_requests_is_no_dead_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "hilos_async")
    async with RawServer(then=hang) as server, session(server.url) as hilos:
        for _ in range(2):
            batch = await hilos.gather_executions(IDS, timeout=0.2, max_concurrency=30)
            assert {type(error) for error in batch.errors.values()} == {DeadlineExceededError}
        assert hilos.stats.paused_for == 0
        assert not caplog.records
