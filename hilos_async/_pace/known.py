"""The pacer of a limit that is known: evenly spaced slots, and a pause after each refusal.

The clock is given, so a simulation runs it in virtual time.
"""

from __future__ import annotations

import math
import random
import time
from bisect import insort
from typing import TYPE_CHECKING, Final

from hilos_async._pace.pacer import Pace, RateLimit, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

# What the even spacing leaves of the limit: a slot that comes late can catch up within it.
_PAD: Final = 0.004
# The share of a window that one slow reply may push a later request back by.
_LATEST: Final = 0.5
# A loop wakes a millisecond late; at high rates a grid that forgave nothing would lose all of those.
_CATCH_UP: Final = 0.005
_CATCH_UP_SLOTS: Final = 3  # so many slots, but no more than 5 % of the window
_RECENT: Final = 500  # replies
_LONGEST_BLIND_PAUSE: Final = 20.0  # seconds, where a refusal does not say how long


class Pause:
    """One monotonic deadline that only moves forward: nothing has to release it."""

    __slots__ = ("_began", "_in_a_row", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self._began = 0.0
        self._in_a_row = 0

    def begin(self, reply: Reply, window: float) -> bool:
        """Pause for a refusal; ``False`` if it was on its way before the pause began.

        Without a Retry-After, the pause is ``window`` seconds, doubled for each refusal in a row;
        with one that the session does not obey, there is none.
        """
        if reply.sent < self._began:
            return False
        self._in_a_row += 1
        blind = min(_LONGEST_BLIND_PAUSE, window * 2.0 ** min(self._in_a_row - 1, 30))
        wait = blind if reply.wait is None else reply.wait
        self._began = reply.received
        # The spread keeps processes that were refused together from coming back together.
        self.until = max(self.until, reply.received + wait * random.uniform(1.0, 1.02))
        return True

    def accepted(self) -> None:
        """Forget the refusals in a row."""
        self._in_a_row = 0


class Slots:
    """Evenly spaced departures, of which no window of ``per`` seconds sees too many arrive.

    The grid is GCRA with a burst of 1; a late request keeps the grid, so lateness costs no goodput.
    Before the next request leaves, the n-th newest before it must have arrived a whole window ago.
    When one arrived, nobody here knows: at the latest, as long before its reply as the fastest
    reply takes. So neither a bucket, a fixed window nor a sliding log sees more than it allows,
    whatever the network does to the spacing.
    """

    __slots__ = (
        "_catch_up",
        "_fastest_before",
        "_fastest_now",
        "_flying",
        "_interval",
        "_next",
        "_per",
        "_recent",
        "_replies",
        "_room",
        "fastest",
    )

    def __init__(self) -> None:
        self._next = 0.0
        self._interval = 0.0
        self._catch_up = _CATCH_UP
        self._per = 0.0
        self._room = 0  # requests in a window; 0: no window is bound
        self._flying: list[float] = []  # departures without a reply, in their order
        self._replies: list[float] = []  # times of the newest replies, sorted, a window's worth
        self.fastest = math.inf  # seconds that a reply takes
        self._fastest_before = self._fastest_now = math.inf
        self._recent = 0

    @property
    def rate(self) -> float | None:
        """Slots per second; ``None``: as many as are asked for."""
        return 1 / self._interval if self._interval else None

    def keep(self, limit: RateLimit) -> None:
        """Keep just below that limit from now on."""
        self._interval = limit.per / limit.requests * (1 + _PAD)
        self._catch_up = max(_CATCH_UP, min(_CATCH_UP_SLOTS * self._interval, 0.05 * limit.per))
        self._per = limit.per
        self._room = max(1, int(limit.requests))

    def space(self, interval: float) -> None:
        """Leave so many seconds between two slots, and bound no window."""
        self._interval = interval

    def hold(self, until: float) -> None:
        """Have no slot before that time."""
        self._next = max(self._next, until)

    def next(self, now: float) -> float:
        """Take the next slot: its time, not before ``now`` but for what the grid may catch up."""
        at = self._next if self._next > now - self._catch_up else now
        grid = at
        nth = self._room - len(self._flying)  # newest reply; all that fly count as newer
        if 0 < nth <= len(self._replies):
            at = max(at, self._replies[-nth] - self.fastest + self._per * (1 + _PAD / 2))
        elif nth <= 0 and self._room:
            at = max(at, self._flying[-nth] + self._per * (1 + _PAD / 2))
        # What the bound pushed back, the grid catches up, but never so much that it is in the past.
        self._next = max(grid, at - self._catch_up) + self._interval
        return at

    def left(self, at: float) -> None:
        """Remember a departure."""
        if self._room:
            self._flying.append(at)

    def replied(self, reply: Reply) -> None:
        """Hear when a reply came; without a reply, when it was given up."""
        if reply.verdict != "failed":
            self._remember(reply.received - reply.sent)
        if self._room:
            if reply.sent in self._flying:
                self._flying.remove(reply.sent)
            latest = reply.sent + self.fastest + _LATEST * self._per
            insort(self._replies, min(reply.received, latest))
            del self._replies[: -self._room]

    def _remember(self, took: float) -> None:
        """Keep the fastest of the last 500 to 1,000: a longer route is no lateness for ever."""
        self._recent += 1
        if self._recent > _RECENT:
            self._recent = 0
            self._fastest_before, self._fastest_now = self._fastest_now, math.inf
        self._fastest_now = min(self._fastest_now, took)
        self.fastest = min(self._fastest_before, self._fastest_now)


class KnownPacer:
    """The pacer of a limit that is known: evenly spaced slots; with ``None``, only pauses."""

    def __init__(
        self, limit: RateLimit | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._limit = limit
        self._pause = Pause()
        self._slots: Slots | None = None
        if limit is not None:
            self._slots = Slots()
            self._slots.keep(limit)

    def bind(self, scope: str) -> None:
        """Hear whose limit this is; it makes no difference within one process."""

    async def reserve(self) -> float:
        """Reserve the next slot and return its time."""
        if self._slots is None:
            return self._pause.until
        return max(self._slots.next(self._clock()), self._pause.until)

    def sent(self, at: float) -> None:
        """Hear that a request left."""
        if self._slots is not None:
            self._slots.left(at)

    def report(self, reply: Reply) -> None:
        """Hear how a request ended: a refusal pauses, an accepted one ends a row of them."""
        if self._slots is not None:
            self._slots.replied(reply)
        if reply.verdict in ("refused", "busy"):
            self._pause.begin(reply, self._limit.per if self._limit else 1.0)
        elif reply.verdict == "accepted":
            self._pause.accepted()

    async def flush(self) -> None:
        """Hear that a session closes: nothing runs in the background."""

    @property
    def paused_until(self) -> float:
        """When the pause ends."""
        return self._pause.until

    def pace(self) -> Pace:
        """The state at this moment."""
        return Pace(rate=self._slots.rate if self._slots else None, limit=self._limit)
