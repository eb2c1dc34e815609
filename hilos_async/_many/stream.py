"""Results as they come: a block that runs something and hands its results to one consumer.

Knows a task, a queue and how far the task may be ahead. Refuses to know what is run. The task is
plain asyncio: a cancel scope that stays open over a yield breaks fixtures under pytest-asyncio.
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


class Lookup(Model, frozen=True):
    """What became of one id: ``execution``, or ``error`` and no execution.

    ``id`` is the UUID, or the text that was given if it is none.
    """

    id: UUID | str
    execution: FlowExecution | None = None
    error: HilosError | None = None

    @classmethod
    def of(cls, id: UUID | str, outcome: FlowExecution | HilosError) -> Self:
        """The lookup that had this outcome."""
        if isinstance(outcome, HilosError):
            return cls(id, None, outcome)
        return cls(id, outcome)

    def unwrap(self) -> FlowExecution:
        """The execution; raises the error if there is none."""
        if self.execution is None:
            raise self.error or HilosError(f"the lookup of {self.id} has no outcome")
        return self.execution


class Stream(Generic[T]):
    """Results as they come, inside ``async with`` and ``async for``.

    What produces them is never more than so many results ahead of whoever takes them. Leaving the
    block early cancels it, waits for that and leaves nothing behind.
    """

    def __init__(self, run: Callable[[Stream[T]], Coroutine[None, None, None]], ahead: int) -> None:
        self._run = run
        self._results: asyncio.Queue[T | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self.room = anyio.Semaphore(ahead)

    def deliver(self, result: T) -> None:
        """Hand a result to the consumer; its place in ``room`` is free again once it is taken."""
        self._results.put_nowait(result)

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise RuntimeError("a stream runs once: ask for another one")
        self._task = asyncio.create_task(self._run(self))
        self._task.add_done_callback(lambda _: self._results.put_nowait(None))
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

    async def __anext__(self) -> T:
        if self._task is None:
            raise RuntimeError("use `async with` around the stream: it runs only inside the block")
        result = await self._results.get()
        if result is None:
            self._results.put_nowait(None)  # for whoever asks again
            self._task.result()  # raises what ended the stream, if something did
            raise StopAsyncIteration
        self.room.release()
        return result
