"""The ids that a caller gives, read one at a time.

A collection is read where an id is wanted. Everything else, such as a generator, is read by one task of
its own. So a generator finds what it finds in a plain ``async for``: one context, one task, its own
timers and its own cancellation.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable, Iterator, Sized
from enum import Enum
from typing import TYPE_CHECKING, Final
from uuid import UUID

import anyio

from hilos_async import _checks

if TYPE_CHECKING:
    Ids = Iterable[UUID | str] | AsyncIterable[UUID | str]


class End(Enum):
    """The end of a source."""

    END = 0


END: Final = End.END  # not None: that may stand in a list of ids, and is an invalid one


class Source:
    """Ids as they are read. ``count`` is how many there are, ``None`` if that is unknown.

    ``has_reader``: ``run`` has to run, and ``next`` gives what it reads; otherwise ``take`` gives each
    id. ``is_async``: it may keep a reader waiting. Raises ``TypeError`` for what is no iterable of ids.
    """

    def __init__(self, ids: Ids) -> None:
        if isinstance(ids, (str, bytes, UUID)):
            raise TypeError(
                f"ids must be an iterable of ids, not one {type(ids).__name__}: "
                f"[{ids!r}], or get_execution({ids!r})"
            )
        self.count: int | None = None
        self._collection: Iterator[UUID | str] | None = None
        # First, and without len(): a Django QuerySet is both, and counts by a query that blocks.
        self.is_async = isinstance(ids, AsyncIterable)
        if isinstance(ids, AsyncIterable):
            self._read_from: AsyncIterator[UUID | str] = aiter(ids)
        else:
            _checks.instance("ids", ids, Iterable)
            if isinstance(ids, Sized):
                self.count = len(ids)
                self._collection = iter(ids)
            else:
                self._read_from = _each(iter(ids))
        self.has_reader = self._collection is None
        self._wanted = asyncio.Semaphore(0)
        self._read: asyncio.Queue[UUID | str | End] = asyncio.Queue()
        self._reader: asyncio.Task[object] | None = None
        self._is_stopped = False

    async def run(self) -> None:
        """Read each id when somebody waits for it, until the end or ``stop``.

        Raises whatever the source raises, a ``CancelledError`` of its own included.
        """
        # A task of asyncio's, which is cancelled once: anyio's are cancelled again and again, and a
        # generator could not wait for anything while it cleans up.
        reader = asyncio.create_task(self._read_on())
        try:
            await asyncio.wait([reader])
        except asyncio.CancelledError:
            self.stop()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([reader])
            if not reader.cancelled():
                reader.result()  # raises what went wrong in the cleaning up
            raise
        reader.result()

    def take(self) -> UUID | str | End:
        """The next id of a collection as it was given; ``END`` at its end."""
        assert self._collection is not None
        return next(self._collection, END)

    async def next(self) -> UUID | str | End:
        """The next id that ``run`` reads, as it was given; ``END`` at the end."""
        self._wanted.release()
        given = await self._read.get()
        if given is END:
            self._read.put_nowait(END)  # for whoever asks next
        return given

    def stop(self) -> None:
        """Read no further: a generator is cancelled where it waits, and cleans up.

        What has been read is still given.
        """
        self._is_stopped = True
        if self._reader is not None:
            self._reader.cancel()

    async def all(self) -> list[UUID | str]:
        """All ids, read in the task that asks."""
        if self._collection is not None:
            return list(self._collection)
        try:
            return [given async for given in self._read_from]
        finally:
            with anyio.CancelScope(shield=True):
                await self._aclose()

    async def _read_on(self) -> None:
        self._reader = (
            asyncio.current_task()
        )  # not earlier: a task that has not begun would never run
        try:
            while not self._is_stopped:
                self._read.put_nowait(await self._next_wanted())
        except StopAsyncIteration:
            pass
        except asyncio.CancelledError:
            if not self._is_stopped:
                raise
        finally:
            self._reader = None  # what cleans up is not cancelled
            self._read.put_nowait(END)
            await self._aclose()

    async def _next_wanted(self) -> UUID | str:
        try:
            await self._wanted.acquire()
        except asyncio.CancelledError as error:
            # A timer of the generator's own has rung while it was not running: it hears of that now.
            throw = getattr(self._read_from, "athrow", None)
            if self._is_stopped or throw is None:
                raise
            given: UUID | str = await throw(error)
            return given
        return await anext(self._read_from)

    async def _aclose(self) -> None:
        """Let a generator that was not read to its end clean up."""
        if (aclose := getattr(self._read_from, "aclose", None)) is not None:
            await aclose()


async def _each(ids: Iterator[UUID | str]) -> AsyncIterator[UUID | str]:
    try:
        for given in ids:
            yield given
    finally:
        if isinstance(ids, Generator):
            ids.close()
