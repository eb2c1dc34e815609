"""The pacer of a limit that is known, in the memory of one process.

Thin: when the next request may leave, `reckoning.py` says. The clock is given, so a simulation runs it
in virtual time. A limit belongs to an account: pacers of one scope share what they know, without being
told, if their sessions run on one event loop.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary, WeakValueDictionary

from hilos_async._log import LimitLog
from hilos_async._pace import reckoning, slots
from hilos_async._pace.pacer import Pace, RateLimit
from hilos_async._pace.state import State, told

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilos_async._pace.pacer import Reply

# Seconds after which a slot is asked for again although no reply came: whoever had one may be gone.
_ASK_AGAIN: Final = 0.25


class Memory:
    """What the pacers of one scope know together, and who waits for a reply."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.waiting: list[asyncio.Future[None]] = []
        self.log = LimitLog()


_shared: WeakKeyDictionary[
    asyncio.AbstractEventLoop, WeakValueDictionary[tuple[str, RateLimit | None, bool], Memory]
] = WeakKeyDictionary()


class KnownPacer:
    """The pacer of a limit that is known: evenly spaced slots; with ``None``, only pauses."""

    _learns = False

    def __init__(
        self, limit: RateLimit | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._limit = limit
        if limit is None:
            self._memory = Memory(State(learns=self._learns))
        else:
            self._memory = Memory(told(limit.requests, limit.per))
        self._scope: str | None = None  # that it has yet to join

    @property
    def _state(self) -> State:
        return self._memory.state

    def bind(self, scope: str) -> None:
        """Hear whose limit this is."""
        self._scope = scope

    async def reserve(self) -> float:
        """Reserve the next slot and return its time; waits for a reply where none is to be had."""
        if self._scope is not None:
            self._join(self._scope)
        while (slot := reckoning.reserve(self._memory.state, self._clock())) is None:
            await self._reply()
        return slot

    def sent(self, at: float) -> None:
        """Hear that a request left."""
        reckoning.left(self._memory.state, at)

    def report(self, reply: Reply) -> None:
        """Hear how a request ended."""
        reckoning.report(self._memory.state, reply, random.random())
        if self._memory.waiting:
            for future in self._memory.waiting:
                _wake(future)
            self._memory.waiting.clear()

    async def flush(self) -> None:
        """Hear that a session closes: nothing runs in the background."""

    @property
    def paused_until(self) -> float:
        """When the pause ends."""
        return self._memory.state.until

    def pace(self) -> Pace:
        """The state at this moment."""
        rate = 1 / slots.interval(self._memory.state) if self._limit else None
        return Pace(rate=rate, limit=self._limit)

    def _join(self, scope: str) -> None:
        """Go on with what the pacers of that scope know; as late as this, a loop is there."""
        here = _shared.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
        self._memory = here.setdefault((scope, self._limit, self._learns), self._memory)
        self._scope = None

    async def _reply(self) -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        timer = loop.call_later(_ASK_AGAIN, _wake, future)
        self._memory.waiting.append(future)
        try:
            await future
        finally:
            timer.cancel()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
