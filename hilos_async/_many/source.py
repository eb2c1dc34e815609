"""The ids that a caller gives, read one at a time.

An async source is read by one task of its own. So a generator finds what it finds in a plain
``async for``: one context, one task, its own timers and its own cancellation.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sized
from enum import Enum
from typing import TYPE_CHECKING, Final
from uuid import UUID

import anyio

from hilos_async import _checks

if TYPE_CHECKING:
    Ids = Iterable[UUID | str] | AsyncIterable[UUID | str]


class _End(Enum):
    END = 0


_END: Final = _End.END  # not None: that may stand in a list of ids, and is an invalid one


class Source:
    """Ids as they are read. ``count`` is how many there are, ``None`` if that is unknown.

    Raises ``TypeError`` for what is no iterable of ids.
    """

    def __init__(self, ids: Ids) -> None:
        if isinstance(ids, (str, bytes, UUID)):
            raise TypeError(
                f"ids must be an iterable of ids, not one {type(ids).__name__}: "
                f"[{ids!r}], or get_execution({ids!r})"
            )
        self.count: int | None = None
        self._plain: Iterator[UUID | str] | None = None
        # First, and without len(): a Django QuerySet is both, and counts by a query that blocks.
        if isinstance(ids, AsyncIterable):
            self._asynchronous: AsyncIterator[UUID | str] = aiter(ids)
        else:
            _checks.instance("ids", ids, Iterable)
            self.count = len(ids) if isinstance(ids, Sized) else None
            self._plain = iter(ids)
        # A generator that sets a context variable resets it in the context it was set in.
        self._context = contextvars.copy_context()
        self._wanted = asyncio.Semaphore(0)
        self._read: asyncio.Queue[UUID | str | _End] = asyncio.Queue()
        self._reader: asyncio.Task[object] | None = None
        self._is_stopped = False

    @property
    def is_async(self) -> bool:
        """Whether ``run`` has to run while ``next`` is called."""
        return self._plain is None

    async def run(self) -> None:
        """Read an async source, each id when somebody waits for it, until its end or ``stop``.

        Raises whatever the source raises, a ``CancelledError`` of its own included.
        """
        self._reader = asyncio.current_task()
        try:
            while not self._is_stopped:
                await self._wanted.acquire()
                try:
                    self._read.put_nowait(await anext(self._asynchronous))
                except StopAsyncIteration:
                    break
        except asyncio.CancelledError:
            if not self._is_stopped:
                raise
        finally:
            self._reader = None
            self._read.put_nowait(_END)
            await self._aclose()

    async def next(self) -> UUID | str:
        """The next id as it was given; ``StopAsyncIteration`` at the end."""
        if self._plain is not None:
            given = self._context.run(next, self._plain, _END)
        else:
            self._wanted.release()
            given = await self._read.get()
            if given is _END:
                self._read.put_nowait(_END)  # for whoever asks next
        if given is _END:
            raise StopAsyncIteration
        return given

    def stop(self) -> None:
        """Read no further: an async source is cancelled where it waits, and cleans up.

        What has been read is still given.
        """
        self._is_stopped = True
        if self._reader is not None:
            self._reader.cancel()

    async def all(self) -> list[UUID | str]:
        """All ids, read in the task that asks."""
        if self._plain is not None:
            return list(self._plain)
        try:
            return [given async for given in self._asynchronous]
        finally:
            await self._aclose()

    async def _aclose(self) -> None:
        """Let an async generator that was not read to its end clean up."""
        if (aclose := getattr(self._asynchronous, "aclose", None)) is not None:
            with anyio.CancelScope(shield=True):
                await aclose()
