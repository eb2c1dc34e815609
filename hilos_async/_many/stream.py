"""Results as they come: a block that runs something and hands its results to one consumer.

The task is plain asyncio: a cancel scope that stays open over a yield breaks fixtures under
pytest-asyncio.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, Self, TypeVar
from uuid import UUID

import anyio

from hilos_async._api.model import Model
from hilos_async._api.objects import FlowExecution
from hilos_async.errors import HilosError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Lookup(Model, frozen=True):
    """What became of one id: ``execution``, or ``error`` and no execution.

    ``id`` is the UUID, or the text that was given if it is none. A stream gives each as a ``Fetched`` or
    a ``Failed``, so that type checkers know which of the two fields is there.
    """

    id: UUID | str
    execution: FlowExecution | None = None
    error: HilosError | None = None

    @staticmethod
    def of(id: UUID | str, outcome: FlowExecution | HilosError) -> Fetched | Failed:
        """The lookup that had this outcome."""
        if isinstance(outcome, HilosError):
            return Failed(id, None, outcome)
        return Fetched(id, outcome)

    def unwrap(self) -> FlowExecution:
        """The execution; raises the error if there is none."""
        if self.execution is None:
            raise self.error or HilosError(f"the lookup of {self.id} has no outcome")
        return self.execution


class Fetched(Lookup, frozen=True):
    """A lookup that found its ``execution``; ``error`` is ``None``."""

    # A field without a default replaces one that has one, which pyright refuses: it always has a value.
    execution: FlowExecution  # pyright: ignore[reportGeneralTypeIssues]
    error: None = None


class Failed(Lookup, frozen=True):
    """A lookup that ended in an ``error``; ``execution`` is ``None``."""

    execution: None  # pyright: ignore[reportGeneralTypeIssues] - as above
    error: HilosError  # pyright: ignore[reportGeneralTypeIssues] - as above


class Feed(Generic[T]):
    """What a stream's task hands its results to. ``room`` has a place for each that nobody has taken."""

    def __init__(self, ahead: int) -> None:
        self.room = anyio.Semaphore(ahead)
        self.results: asyncio.Queue[T | None] = asyncio.Queue()

    def deliver(self, result: T) -> None:
        """Hand a result to the consumer; its place in ``room`` is free again once it is taken."""
        self.results.put_nowait(result)


class Stream(Generic[T_co]):
    """Results as they come, inside ``async with`` and ``async for``.

    What produces them is never more than so many results ahead of whoever takes them. Leaving the
    block early cancels it, waits for that and leaves nothing behind.
    """

    def __init__(
        self, run: Callable[[Feed[T_co]], Coroutine[None, None, None]], ahead: int
    ) -> None:
        self._run = run
        self._feed: Feed[T_co] = Feed(ahead)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise RuntimeError("a stream runs once: ask for another one")
        self._task = asyncio.create_task(self._run(self._feed))
        self._task.add_done_callback(lambda _: self._feed.results.put_nowait(None))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._task is None:
            return
        self._task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()  # whoever left early does not want it; asyncio would log it

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T_co:
        if self._task is None:
            raise RuntimeError("use `async with` around the stream: it runs only inside the block")
        result = await self._feed.results.get()
        if result is None:
            self._feed.results.put_nowait(None)  # for whoever asks again
            self._task.result()  # raises what ended the stream, if something did
            raise StopAsyncIteration
        self._feed.room.release()
        return result


class StreamSink:
    """Hands what a fan-out finds to a stream, each as a lookup; a repeated id is asked again."""

    def __init__(self, feed: Feed[Fetched | Failed]) -> None:
        self._feed = feed
        self.room = feed.room

    def accept(self, key: UUID | str) -> bool:
        """Every id is asked."""
        return True

    def deliver(self, key: UUID | str, outcome: FlowExecution | HilosError) -> None:
        """Give it to the consumer."""
        self._feed.deliver(Lookup.of(key, outcome))
