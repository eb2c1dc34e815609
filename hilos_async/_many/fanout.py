"""Many lookups at once: K workers over one source of ids, whatever becomes of the results.

Knows ids and workers. Refuses to know HTTP, retries, paces and what is made of an outcome: a lookup
and a place to deliver it to are given. At most K tasks live however long the input is.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Final
from uuid import UUID

import anyio

from hilos_async import _checks
from hilos_async.errors import AuthenticationError, HilosError, InvalidIdError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from hilos_async._api.objects import FlowExecution
    from hilos_async._wire.call import Caller

    Ids = Iterable[UUID | str] | AsyncIterable[UUID | str]

_WITHOUT_PAUSE: Final = 10  # ids that each worker may settle, about, before the loop runs


class Source:
    """The ids as they are read: one at a time, by whichever worker asks next.

    ``count`` is how many there are, ``None`` if that is unknown. Raises ``TypeError`` for what is no
    iterable of ids.
    """

    def __init__(self, ids: Ids) -> None:
        if isinstance(ids, (str, bytes, UUID)):
            raise TypeError(
                f"ids must be an iterable of ids, not one {type(ids).__name__}: "
                f"[{ids!r}], or get_execution({ids!r})"
            )
        self.count = len(ids) if isinstance(ids, Sized) else None
        self._plain: Iterator[UUID | str] | None = None
        self._lock = anyio.Lock()  # an async generator refuses to be asked twice at once
        if isinstance(ids, AsyncIterable):
            self._asynchronous: AsyncIterator[UUID | str] = aiter(ids)
        else:
            _checks.instance("ids", ids, Iterable)
            self._plain = iter(ids)

    async def next(self, patience: float) -> UUID | str:
        """The next id as it was given; ``StopAsyncIteration`` at the end.

        An async source is waited for so many seconds and no more: what it would still give nobody
        knows.
        """
        if self._plain is not None:
            for given in self._plain:
                return given
            raise StopAsyncIteration
        with anyio.move_on_after(patience if patience < math.inf else None):
            async with self._lock:
                return await anext(self._asynchronous)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Let an async generator that was not read to its end clean up."""
        if self._plain is None and (aclose := getattr(self._asynchronous, "aclose", None)):
            await aclose()


class FanOut:
    """Workers that read ids, look each up and deliver what became of it.

    ``accept`` says of each id, as read, whether it is to be asked. ``room``, if given, is acquired
    before an id is read: whoever takes the outcome away releases it. ``stop`` must make the lookups
    that wait fail with the error it is given.
    """

    def __init__(
        self,
        ids: Ids,
        lookup: Callable[[UUID], Awaitable[FlowExecution]],
        caller: Caller,
        *,
        clock: Callable[[], float],
        stop: Callable[[AuthenticationError], None],
        deliver: Callable[[UUID | str, FlowExecution | HilosError], None],
        accept: Callable[[UUID | str], bool] | None = None,
        room: anyio.Semaphore | None = None,
    ) -> None:
        self.source = Source(ids)
        self._lookup = lookup
        self._caller = caller
        self._clock = clock
        self._stop = stop
        self._deliver = deliver
        self._accept = accept
        self._room = room
        self._refused: AuthenticationError | None = None
        self._reads = itertools.count(1)

    async def run(self, workers: int) -> None:
        """Look up all ids with that many workers.

        Raises ``AuthenticationError`` once the key was refused and all that was under way has been
        delivered, and whatever the ids or ``deliver`` raise, plain.
        """
        try:
            await in_tasks(self._work, min(workers, self.source.count or workers))
        finally:
            with anyio.CancelScope(shield=True):
                await self.source.aclose()
        if self._refused is not None:
            raise self._refused

    async def _work(self) -> None:
        while self._refused is None:
            if next(self._reads) % _WITHOUT_PAUSE == 0:
                await asyncio.sleep(0)
            if self._room is not None:
                await self._room.acquire()
            try:
                given = await self.source.next(self._caller.deadline - self._clock())
            except StopAsyncIteration:
                return
            if not await self._settle(given) and self._room is not None:
                self._room.release()

    async def _settle(self, given: UUID | str) -> bool:
        """Deliver what becomes of one id; ``False`` if it was not to be asked or the key is bad."""
        try:
            execution_id = _checks.parse_id(given)
        except InvalidIdError as error:
            text = str(error.execution_id)
            if self._accept is not None and not self._accept(text):
                return False
            self._deliver(text, error)
            return True
        if self._accept is not None and not self._accept(execution_id):
            return False
        outcome: FlowExecution | HilosError
        try:
            if self._clock() >= self._caller.deadline:
                raise self._caller.too_late(execution_id)
            outcome = await self._lookup(execution_id)
        except AuthenticationError as error:
            if self._refused is None:
                self._refused = error
                self._stop(error)
            return False
        except HilosError as error:
            outcome = error
        self._deliver(execution_id, outcome)
        return True


async def in_tasks(work: Callable[[], Coroutine[None, None, None]], count: int) -> None:
    """Run that many workers; the first error of one ends all and comes out plain."""
    try:
        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(work)
    except BaseExceptionGroup as group:
        error = group.exceptions[0]
    else:
        return
    raise error
