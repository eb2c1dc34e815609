"""The pacer of a limit that nobody wrote down, in the memory of one process.

Thin: how a limit is learned stands in `limits.py`, when the next request may leave in `reckoning.py`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hilos_async._pace import slots
from hilos_async._pace.known import KnownPacer
from hilos_async._pace.pacer import Pace, RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilos_async._pace.pacer import Reply


class LearningPacer(KnownPacer):
    """Learns a limit from refusals, ``Retry-After`` and rate-limit header fields, and keeps it."""

    _learns = True

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(None, clock=clock)
        self._kept = 0.0

    async def reserve(self) -> float:
        """Reserve the next slot and return its time; waits for a reply where none is to be had."""
        slot = await super().reserve()
        self._tell()
        return slot

    def report(self, reply: Reply) -> None:
        """Hear how a request ended."""
        super().report(reply)
        self._tell()

    def pace(self) -> Pace:
        """The state at this moment; no rate while no limit has been met."""
        state = self._memory.state
        if not state.requests:
            return Pace(rate=None, limit=None)
        limit = RateLimit(state.requests, state.per)
        return Pace(rate=1 / slots.interval(state), limit=limit)

    def _tell(self) -> None:
        state = self._memory.state
        if state.requests != self._kept:
            self._kept = state.requests
            known = RateLimit(state.before or state.requests, state.per)
            self._memory.log.tell(known, RateLimit(state.requests, state.per))
