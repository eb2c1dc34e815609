"""A callback that would never run, or that is always true, is refused and never ignored."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

import pytest

from hilos_async import HilosSession
from hilos_async._many import watch
from hilos_async.export import export_contacts, export_executions
from hilos_async.testing import FakeHilos

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

from tests.raw_server import ids

pytestmark = pytest.mark.anyio

IDS = ids(5)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SOONEST", 0.01)


async def coroutine(*_: object) -> bool:
    return False


async def asynchronous_generator(*_: object) -> AsyncIterator[bool]:
    yield False


def generator(*_: object) -> Iterator[bool]:
    yield False


class Callback:
    async def __call__(self, *_: object) -> bool:
        return False

    async def method(self, *_: object) -> bool:
        return False

    def generating(self, *_: object) -> Iterator[bool]:
        yield False


KNOWN_AT_ONCE: list[Callable[..., Any]] = [
    coroutine,
    asynchronous_generator,
    generator,
    functools.partial(coroutine, 1),
    functools.partial(functools.partial(Callback(), 1), 2),
    Callback(),
    Callback().method,
    functools.partial(Callback().generating, 1),
]


async def as_until(hilos: HilosSession, callback: Any, path: Path) -> None:
    await hilos.wait_for_executions(IDS, until=callback)


async def as_until_of_a_watch(hilos: HilosSession, callback: Any, path: Path) -> None:
    async with hilos.watch_executions(IDS, until=callback) as changes:
        async for _ in changes:
            pass


async def as_on_change(hilos: HilosSession, callback: Any, path: Path) -> None:
    await hilos.wait_for_executions(IDS, until=lambda execution: True, on_change=callback)


async def as_on_progress(hilos: HilosSession, callback: Any, path: Path) -> None:
    await hilos.gather_executions(IDS, on_progress=callback)


async def as_on_progress_of_an_export(hilos: HilosSession, callback: Any, path: Path) -> None:
    await export_executions(hilos, IDS, path / "out.ndjson", on_progress=callback)


async def as_on_progress_of_contacts(hilos: HilosSession, callback: Any, path: Path) -> None:
    await export_contacts(hilos, IDS, path / "out.ndjson", on_progress=callback)


USES = [as_until, as_until_of_a_watch, as_on_change, as_on_progress, as_on_progress_of_an_export]
USES.append(as_on_progress_of_contacts)
ALL_USES = pytest.mark.parametrize("use", USES)


@ALL_USES
@pytest.mark.parametrize("callback", KNOWN_AT_ONCE)
async def test_a_callback_that_would_never_run_is_refused_before_any_request(
    use: Callable[..., Awaitable[None]], callback: object, tmp_path: Path
) -> None:
    async with FakeHilos() as fake, fake.session() as hilos:
        with pytest.raises(TypeError, match="would never run: give a plain function"):
            await use(hilos, callback, tmp_path)
        assert fake.requests == 0


@ALL_USES
@pytest.mark.parametrize(
    "callback", [lambda *_: coroutine(), lambda *_: generator(), lambda *_: Callback().method()]
)
async def test_what_only_its_first_call_shows_is_refused_then(
    use: Callable[..., Awaitable[None]], callback: object, tmp_path: Path
) -> None:
    async with FakeHilos() as fake, fake.session() as hilos:
        with pytest.raises(TypeError, match="would never run"):
            await use(hilos, callback, tmp_path)


@ALL_USES
async def test_what_is_no_function_is_refused(
    use: Callable[..., Awaitable[None]], tmp_path: Path
) -> None:
    async with FakeHilos() as fake, fake.session() as hilos:
        with pytest.raises(TypeError, match="must be a function, not str"):
            await use(hilos, "print", tmp_path)
        assert fake.requests == 0


async def test_a_callback_may_start_a_task_and_return_it(tmp_path: Path) -> None:
    started: list[asyncio.Future[bool]] = []

    def start(*_: object) -> asyncio.Future[bool]:
        started.append(asyncio.ensure_future(coroutine()))
        return started[-1]

    async with FakeHilos() as fake, fake.session(pace="off") as hilos:
        for use in (as_on_progress, as_on_change, as_on_progress_of_an_export):
            await use(hilos, start, tmp_path)
        assert len(started) >= 3 * len(IDS)
        with pytest.raises(TypeError, match="until is asynchronous"):  # it would always be true
            await as_until(hilos, start, tmp_path)
    await asyncio.gather(*started)


async def test_an_object_a_partial_and_a_method_are_callbacks() -> None:
    class Counter:
        count = 0

        def __call__(self, *_: object) -> bool:
            self.count += 1
            return True

    counter = Counter()
    given: list[Callable[..., bool]] = [counter, functools.partial(counter, 1), counter.__call__]
    async with FakeHilos() as fake, fake.session(pace="off") as hilos:
        for callback in given:
            await hilos.gather_executions(IDS, on_progress=callback)
            await hilos.wait_for_executions(IDS, until=callback, on_change=callback)
    assert counter.count == 3 * 3 * len(IDS)
