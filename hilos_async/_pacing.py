"""When the next request may leave: the Pacer protocol and the pacer of a known limit.

Knows time, limits and pauses. Refuses to know HTTP, tasks or queues: it computes, it never sleeps.
The clock is given, so a simulation runs it in virtual time.
"""

from __future__ import annotations

import random
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

import msgspec

from hilos_async._config import positive

if TYPE_CHECKING:
    from collections.abc import Callable

# Requests jitter on their way: two that leave 200 ms apart may arrive 195 ms apart. Without a pad a
# server that counts exactly sees one too many; on ActiveCampaign that costs 30 s of silence. Half of
# the pad is for the way, half lets a late departure catch up.
_PAD: Final = 0.008
_LONGEST_BLIND_PAUSE: Final = 20.0  # seconds, where a refusal does not say how long


@dataclass(frozen=True, slots=True)
class RateLimit:
    """``requests`` in any window of ``per`` seconds.

    Both must be positive and finite: ``ValueError`` or ``TypeError`` otherwise.
    """

    requests: float
    per: float = 1.0

    def __post_init__(self) -> None:
        positive("requests", self.requests)
        positive("per", self.per)

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.per

    def __str__(self) -> str:
        unit = {1.0: "s", 60.0: "min", 3600.0: "h", 86400.0: "day"}.get(self.per)
        return f"{self.requests:g}/{unit}" if unit else f"{self.requests:g} per {self.per:g} s"


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What a pacer is told about a request that has ended; times are the pacer's clock.

    ``accepted``: the server worked on it, whatever the answer. ``refused``: 429, or another reply
    that asks to wait (``retry_after`` seconds, ``None`` where it does not say how long).
    ``failed``: no usable reply, or a 5xx; the server may or may not have counted it.
    """

    verdict: Literal["accepted", "refused", "failed"]
    sent: float
    received: float
    retry_after: float | None = None


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """A pacer's state at one moment."""

    rate: float | None  # requests per second it spaces by; None: unbounded
    limit: RateLimit | None  # known or learned


class Pacer(Protocol):
    """What a session asks before each request.

    Calls come from one event loop; ``reserve`` is never entered twice at once by the same session.
    """

    async def reserve(self) -> float:
        """Reserve the next slot and return its time on the monotonic clock, maybe in the past.

        A reservation that the session cannot use at once, it keeps for its next request.
        """
        ...

    def sent(self, at: float) -> None:
        """Hear that a request left at that time, in the slot that was reserved last."""
        ...

    def report(self, reply: Reply) -> None:
        """Hear how a request ended."""
        ...

    @property
    def paused_until(self) -> float:
        """When the pause ends, on the monotonic clock; in the past when there is none."""
        ...

    def pace(self) -> Pace:
        """The state at this moment, for ``HilosSession.stats``."""
        ...


class Pause:
    """One monotonic deadline that only moves forward: nothing has to release it."""

    __slots__ = ("_began", "_in_a_row", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self._began = 0.0
        self._in_a_row = 0

    def refused(self, reply: Reply, window: float) -> bool:
        """Pause for a refusal; ``False`` if it was on its way before the pause began.

        Without a Retry-After, the pause is ``window`` seconds, doubled for each refusal in a row.
        """
        if reply.sent < self._began:
            return False
        self._in_a_row += 1
        blind = min(_LONGEST_BLIND_PAUSE, window * 2.0 ** min(self._in_a_row - 1, 30))
        wait = blind if not reply.retry_after else reply.retry_after
        self._began = reply.received
        # The spread keeps processes that were refused together from coming back together.
        self.until = max(self.until, reply.received + wait * random.uniform(1.0, 1.02))
        return True

    def accepted(self) -> None:
        """Forget the refusals in a row."""
        self._in_a_row = 0


class KnownPacer:
    """Evenly spaced slots under a limit that is known; with ``None``, only pauses.

    Slots lie on a grid of ``per / requests`` (GCRA with a burst of 1), and no window of ``per``
    seconds, measured from what really left, holds more than ``requests``: so neither a bucket, a
    fixed window nor a sliding log on the other side sees more than it allows.
    """

    def __init__(
        self, limit: RateLimit | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._limit = limit
        self._pause = Pause()
        self._next = 0.0
        self._window = self._interval = 0.0
        self._log: deque[float] = deque(maxlen=0)
        if limit is not None:
            self._interval = limit.per / limit.requests * (1 + _PAD)
            self._window = limit.per * (1 + _PAD / 2)
            self._log = deque(maxlen=max(1, int(limit.requests)))

    async def reserve(self) -> float:
        """Reserve the next slot and return its time."""
        at = max(self._clock(), self._next, self._pause.until)
        # A late request keeps the grid, so lateness costs no goodput; how far the grid may then
        # catch up is bounded by what a sliding window over the real departures allows.
        self._next = at + self._interval
        if self._interval and len(self._log) == self._log.maxlen:
            at = max(at, self._log[0] + self._window)
        return at

    def sent(self, at: float) -> None:
        """Hear that a request left."""
        self._log.append(at)

    def report(self, reply: Reply) -> None:
        """Hear how a request ended: a refusal pauses, everything accepted ends a row of them."""
        if reply.verdict == "refused":
            self._pause.refused(reply, self._limit.per if self._limit else 1.0)
        elif reply.verdict == "accepted":
            self._pause.accepted()

    @property
    def paused_until(self) -> float:
        """When the pause ends."""
        return self._pause.until

    def pace(self) -> Pace:
        """The state at this moment."""
        return Pace(rate=1 / self._interval if self._interval else None, limit=self._limit)
