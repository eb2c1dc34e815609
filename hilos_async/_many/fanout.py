"""Many lookups at once: K workers between one source of ids and one sink of outcomes.

At most K tasks live, and two for a source that is no collection, however long the input is.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar
from uuid import UUID

from hilos_async import _checks
from hilos_async._many.source import END, Source
from hilos_async._many.tasks import tasks
from hilos_async.errors import AuthenticationError, HilosError, InvalidIdError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import anyio

    from hilos_async._wire.call import Caller

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

_WITHOUT_PAUSE: Final = 10  # ids that each worker may settle, about, before the loop runs


class Sink(Protocol[T_contra]):
    """Where outcomes go. ``room``, if there is one, is acquired before an id is read.

    Whoever takes an outcome away releases it.
    """

    @property
    def room(self) -> anyio.Semaphore | None:
        """Places for outcomes that nobody has taken yet."""
        ...

    def accept(self, key: UUID | str) -> bool:
        """Whether an id that was read is to be asked; its place is taken now."""
        ...

    def deliver(self, key: UUID | str, outcome: T_contra | HilosError) -> None:
        """Take what became of an id that was accepted."""
        ...


class FanOut(Generic[T]):
    """Workers that read ids, look each up and deliver what became of it.

    ``lookup`` asks for one. ``path`` names an id in an error. ``stop`` makes the lookups that wait fail
    with the error it is given. ``fetched`` and ``failed`` count outcomes.
    """

    def __init__(
        self,
        source: Source,
        lookup: Callable[[UUID], Awaitable[T]],
        sink: Sink[T],
        caller: Caller,
        *,
        clock: Callable[[], float],
        path: Callable[[UUID], str],
        stop: Callable[[AuthenticationError], None],
    ) -> None:
        self.source = source
        self.count = source.count
        self.fetched = self.failed = 0
        self._lookup = lookup
        self._sink = sink
        self._caller = caller
        self._clock = clock
        self._path = path
        self._stop = stop
        self._refused: AuthenticationError | None = None
        self._reads = itertools.count(1)

    async def run(self, workers: int) -> None:
        """Look up all ids with that many workers.

        Every id that was read is delivered, or an exception comes out: ``AuthenticationError`` once the
        key was refused and all that was under way has been delivered, and whatever the ids, the lookup
        or the sink raise besides a ``HilosError``.
        """
        source = self.source
        timer: asyncio.TimerHandle | None = None
        if source.is_async and self._caller.deadline < math.inf:
            # What an async source would still give after the deadline, nobody waits for.
            left = self._caller.deadline - self._clock()
            timer = asyncio.get_running_loop().call_later(left, source.stop)
        try:
            async with tasks() as start:
                if source.has_reader:
                    start(source.run)
                working = min(workers, self.count or workers)
                for _ in range(working):
                    start(self._work)
        finally:
            if timer is not None:
                timer.cancel()
        if self._refused is not None:
            raise self._refused

    async def _work(self) -> None:
        source, room = self.source, self._sink.room
        while self._refused is None:
            if next(self._reads) % _WITHOUT_PAUSE == 0:
                await asyncio.sleep(0)
            if room is not None:
                await room.acquire()
            given = await source.next() if source.has_reader else source.take()
            if given is END:
                return
            if not await self._settle(given) and room is not None:
                room.release()

    async def _settle(self, given: UUID | str) -> bool:
        """Deliver what becomes of one id; ``False`` if it was not to be asked or the key is bad."""
        sink, caller = self._sink, self._caller
        key: UUID | str
        outcome: T | HilosError
        try:
            key = id = _checks.parse_id(given)
        except InvalidIdError as error:
            key, outcome = str(error.execution_id), lean(error)
            if not sink.accept(key):
                return False
            self.failed += 1
        else:
            if not sink.accept(id):
                return False
            try:
                if self._clock() >= caller.deadline:
                    raise caller.too_late(id, self._path(id))
                outcome = await self._lookup(id)
                self.fetched += 1
            except AuthenticationError as error:
                self._end(error)
                return False
            except HilosError as error:
                outcome = lean(error)
                self.failed += 1
        sink.deliver(key, outcome)
        return True

    def _end(self, refused: AuthenticationError) -> None:
        """Ask for nothing more: the key was refused."""
        if self._refused is None:
            self._refused = refused
            self._stop(refused)
            self.source.stop()


def lean(error: HilosError) -> HilosError:
    """The error and its causes without tracebacks: the frames of its callers are not kept with it."""
    cause: BaseException | None = error
    while cause is not None:
        cause.__traceback__ = None
        cause.__context__ = None
        cause = cause.__cause__
    return error
