"""The pacer of a limit that is known, in the memory of one process.

Thin: when the next request may leave, `reckoning.py` says. The clock is given, so a simulation runs it
in virtual time.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Final

from hilos_async._pace import reckoning, slots
from hilos_async._pace.pacer import Pace, RateLimit
from hilos_async._pace.state import State, told

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilos_async._pace.pacer import Reply

# Seconds after which a slot is asked for again although no reply came: whoever had one may be gone.
_ASK_AGAIN: Final = 0.25


class KnownPacer:
    """The pacer of a limit that is known: evenly spaced slots; with ``None``, only pauses."""

    def __init__(
        self, limit: RateLimit | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._limit = limit
        self._state = told(limit.requests, limit.per) if limit else State(learns=False)
        self._waiting: list[asyncio.Future[None]] = []

    def bind(self, scope: str) -> None:
        """Hear whose limit this is; it makes no difference within one process."""

    async def reserve(self) -> float:
        """Reserve the next slot and return its time; waits for a reply where none is to be had."""
        while (slot := reckoning.reserve(self._state, self._clock())) is None:
            await self._reply()
        return slot

    def sent(self, at: float) -> None:
        """Hear that a request left."""
        reckoning.left(self._state, at)

    def report(self, reply: Reply) -> None:
        """Hear how a request ended."""
        reckoning.report(self._state, reply, random.random())
        if self._waiting:
            for future in self._waiting:
                _wake(future)
            self._waiting.clear()

    async def flush(self) -> None:
        """Hear that a session closes: nothing runs in the background."""

    @property
    def paused_until(self) -> float:
        """When the pause ends."""
        return self._state.until

    def pace(self) -> Pace:
        """The state at this moment."""
        rate = 1 / slots.interval(self._state) if self._limit else None
        return Pace(rate=rate, limit=self._limit)

    async def _reply(self) -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        timer = loop.call_later(_ASK_AGAIN, _wake, future)
        self._waiting.append(future)
        try:
            await future
        finally:
            timer.cancel()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
