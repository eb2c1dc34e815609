"""A failed id keeps what its error says, and not the frames of those who called."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from typing import TYPE_CHECKING

import pytest

from hilos_async import ExecutionBatch, HilosError, RetryPolicy
from tests.faults import session
from tests.raw_server import (
    Action,
    RawServer,
    close,
    document,
    good,
    hang,
    ids,
    reply,
    reset,
    send,
    status,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from hilos_async import HilosSession
    from tests.raw_server import Exchange

    Way = Callable[[HilosSession, list[UUID]], Awaitable[list[HilosError]]]

pytestmark = pytest.mark.anyio

IDS = ids(220)
AIM = 3_000  # bytes of memory for each failed id
ANY = 50_000  # bytes that any batch leaves behind, such as connections
FAULTS: dict[str, Action] = {
    "404": status(404),
    "500": status(500),
    "no execution": send(reply(200, b"<html>")),
    "another's": send(reply(200, b'{"id": "00000000-0000-4000-8000-000000000000"}')),
    "reset": reset(),
    "cut short": close(reply(200, b"{", length=99)),
    "timeout": hang,
}
faults = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())


def mostly(fault: Action) -> Action:
    """The fault, but for each fourth id: a server that answers nobody is asked one at a time."""

    async def act(exchange: Exchange) -> None:
        await (fault if exchange.request.id.int % 4 else good)(exchange)

    return act


def patience(fault: Action) -> float:
    return 0.3 if fault is hang else 15.0


async def gathered(hilos: HilosSession, some: list[UUID]) -> list[HilosError]:
    batch = await hilos.gather_executions(some)
    assert isinstance(batch, ExecutionBatch)
    return list(batch.errors.values())


async def streamed(hilos: HilosSession, some: list[UUID]) -> list[HilosError]:
    async with hilos.stream_executions(some) as lookups:
        return [lookup.error async for lookup in lookups if lookup.error is not None]


@faults
@pytest.mark.parametrize("way", [gathered, streamed])
async def test_a_failed_id_keeps_no_more_than_three_kilobytes_and_no_cycle(
    fault: Action, way: Way
) -> None:
    retry = RetryPolicy(attempts=2, max_backoff=0.001)
    async with (
        RawServer(then=mostly(fault)) as server,
        session(
            server.url,
            retry=retry,
            max_concurrency=9,
            timeout=None,
            attempt_timeout=patience(fault),
        ) as hilos,
    ):
        for id in IDS:
            document(id)  # the server keeps them
        await way(hilos, IDS[:12])  # what is made once
        server.requests.clear()
        gc.collect()
        tracemalloc.start(1)
        try:
            before, _ = tracemalloc.get_traced_memory()
            errors = await way(hilos, IDS[20:60] if fault is hang else IDS[20:])
            server.requests.clear()
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(errors) >= (30 if fault is hang else 150)  # more where the machine stalls
        assert after - before < ANY + AIM * len(errors)
        kept = [weakref.ref(error) for error in errors]
        gc.disable()
        try:
            errors.clear()
            assert not any(ref() for ref in kept)  # no cycle: nothing has to look for them
        finally:
            gc.enable()


@faults
async def test_an_error_has_no_frames_and_neither_has_its_cause(fault: Action) -> None:
    retry = RetryPolicy(attempts=2, max_backoff=0.001)
    async with (
        RawServer(then=mostly(fault)) as server,
        session(
            server.url, retry=retry, max_concurrency=9, attempt_timeout=patience(fault)
        ) as hilos,
    ):
        for error in (*await gathered(hilos, IDS[:9]), *await streamed(hilos, IDS[:9])):
            cause: BaseException | None = error
            while cause is not None:
                assert cause.__traceback__ is None
                assert cause.__context__ is None or cause.__context__ is cause.__cause__
                cause = cause.__cause__
