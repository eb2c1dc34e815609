"""The pacer of a limit that nobody wrote down: it finds the limit, keeps just below it, follows it.

Knows what refusals and header fields tell about a limit. Like all pacers it computes and never
sleeps, on a clock that is given, and it knows no HTTP.

    ramp   no limit met yet: 6 requests per round trip, and more as more are accepted
    hold   a limit was met: evenly spaced just below it; now and then 2 % more, to see if it rose
"""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from hilos_async._log import LimitLog
from hilos_async._pace.known import Pause, Slots
from hilos_async._pace.pacer import Pace, RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilos_async._pace.pacer import Quota, Reply

_FIRST_RATE: Final = 20.0  # per second, until a reply tells how long a round trip takes
# What is under way when a limit is met is refused together. So the ramp risks 6 requests, or 15 % of
# what has been accepted already: a limit of 50 costs 8 refusals, and a server without one is asked
# at full speed after some 20 round trips, however long those are.
_RISK: Final = 6
_RISKED_SHARE: Final = 0.15
_WINDOWS: Final = (1.0, 60.0, 3_600.0, 86_400.0)  # those of Django REST Framework's throttles
_EXPLAINS: Final = 1.5  # seconds that a window's Retry-After may be off: rounding, and the way
_LOG: Final = 20_000  # accepted requests that are remembered
_MORE: Final = 0.02  # share by which a first try goes over what is known
_FIRST_TRY: Final = 20.0  # seconds without a refusal before it
_TRY_COST: Final = 0.04  # share of the time that the pauses of failed tries may cost
_LONGEST_TRY: Final = 3_600.0


class LearningPacer:
    """Learns a limit from refusals, ``Retry-After`` and rate-limit header fields, and keeps it."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pause = Pause()
        self._slots = Slots()
        self._limit: RateLimit | None = None
        self._accepted: deque[float] = deque(maxlen=_LOG)  # when they were sent
        self._refused: Reply | None = None  # the earliest sent of those that began the pause
        # hold
        self._before_try: RateLimit | None = None
        self._more = self._less = _MORE
        self._patience = _FIRST_TRY
        self._quiet_since = 0.0
        # what header fields said
        self._announced: RateLimit | None = None
        self._trusts_remaining = True
        self._log = LimitLog()
        self._slots.space(1 / _FIRST_RATE)

    def bind(self, scope: str) -> None:
        """Hear whose limit this is; it makes no difference within one process."""

    async def reserve(self) -> float:
        """Reserve the next slot and return its time."""
        now = max(self._clock(), self._pause.until)
        if self._refused is not None:
            self._learn(self._refused)
            self._refused = None
            self._quiet_since = now
        elif (
            self._limit not in (None, self._announced)  # what the server itself says is not tried
            and now - self._quiet_since >= self._patience
        ):
            self._try_more(self._limit)
            self._quiet_since = now
        return max(self._slots.next(now), self._pause.until)

    def sent(self, at: float) -> None:
        """Hear that a request left."""
        self._slots.left(at)

    def report(self, reply: Reply) -> None:
        """Hear how a request ended."""
        self._slots.replied(reply)
        if reply.quota is not None:
            self._hear(reply, reply.quota)
        if reply.verdict == "accepted":
            self._pause.accepted()
            self._accepted.append(reply.sent)
            if self._limit is None:
                risked = max(_RISK, _RISKED_SHARE * len(self._accepted))
                self._slots.space(min(self._slots.fastest / risked, 1 / _FIRST_RATE))
        elif reply.verdict == "busy":
            self._pause.begin(reply, _WINDOWS[0])
        elif reply.verdict == "refused":
            self._refuse(reply)

    async def flush(self) -> None:
        """Hear that a session closes: nothing runs in the background."""

    @property
    def paused_until(self) -> float:
        """When the pause ends."""
        return self._pause.until

    def pace(self) -> Pace:
        """The state at this moment; no rate while no limit has been met."""
        rate = None if self._limit is None else self._slots.rate
        return Pace(rate=rate, limit=self._limit)

    def _keep(self, limit: RateLimit) -> None:
        self._limit = limit
        self._slots.keep(limit)
        self._log.tell(self._before_try or limit, limit)

    def _learn(self, refused: Reply) -> None:
        """Take the limit from what was accepted in the window before the refusal.

        It is asked once the pause is over: by then every reply to what was sent before it is in.
        """
        per, requests = self._window_of(refused)
        tried, known = self._before_try is not None, self._before_try or self._limit
        self._before_try, self._more = None, _MORE
        if known is None or known.per != per:
            self._patience = max(_FIRST_TRY, per, (refused.retry_after or 0.0) / _TRY_COST)
        elif tried and requests >= 0.9 * known.requests:
            # The try was too much; what was known before it was not.
            self._patience = min(_LONGEST_TRY, self._patience * 2)
            requests = int(known.requests)
        else:
            # Refused without having tried more: the limit has dropped, or somebody else takes from
            # the same budget. Give way, and the more the sooner it happens again.
            again = refused.sent - self._quiet_since < self._patience
            self._less = min(0.5, self._less * 2) if again else _MORE
            requests = min(requests, math.floor(known.requests * (1 - self._less)))
        self._keep(RateLimit(max(1, requests), per))

    def _window_of(self, refused: Reply) -> tuple[float, int]:
        """The window that explains the Retry-After, and how many requests were accepted in it."""
        likely = [self._announced.per] if self._announced is not None else []
        likely += [self._limit.per] if self._limit is not None else []
        counts = {
            per: self._accepted_in(refused.sent - per, refused.sent) for per in (*likely, *_WINDOWS)
        }
        if refused.retry_after is not None:
            for per, (oldest, requests) in counts.items():
                wait = oldest + per - refused.sent
                if requests and abs(wait + 0.5 - refused.retry_after) < _EXPLAINS:
                    # Understood, so believed, even if the policy obeys no wait that long.
                    self._slots.hold(refused.received + refused.retry_after)
                    return per, requests
        per = next(iter(counts))
        return per, counts[per][1]

    def _accepted_in(self, start: float, end: float) -> tuple[float, int]:
        """When the oldest request in that time was sent, and how many were accepted."""
        oldest, requests = end, 0
        for sent in reversed(self._accepted):
            if sent <= start:
                break
            if sent <= end:
                oldest, requests = sent, requests + 1
        return oldest, requests

    def _try_more(self, limit: RateLimit) -> None:
        """Go a little over what is known; each try that nobody refuses doubles the next step."""
        if self._before_try is not None:  # nobody refused the last one: the limit has risen
            self._more *= 2
            self._patience = max(_FIRST_TRY, limit.per)  # the window must have time to refuse
        self._before_try = limit
        self._keep(RateLimit(math.ceil(limit.requests * (1 + self._more)), limit.per))

    def _hear(self, reply: Reply, quota: Quota) -> None:
        """Take over a limit that the server announces, and stop before it refuses for the first time.

        ``remaining`` is only heard while no limit is known (close below one, it is near 0 all the
        time), and no more once a refusal said that there was something left.
        """
        if quota.requests and quota.per:
            announced = RateLimit(quota.requests, quota.per)
            if announced != self._announced:
                self._announced, self._before_try = announced, None
                self._keep(announced)
        if reply.verdict == "refused":
            self._trusts_remaining &= not quota.remaining
        elif (
            self._limit is None and self._trusts_remaining and quota.remaining == 0 and quota.reset
        ):
            self._refuse(
                msgspec.structs.replace(
                    reply, verdict="refused", retry_after=quota.reset, wait=quota.reset
                )
            )

    def _refuse(self, reply: Reply) -> None:
        window = self._limit.per if self._limit is not None else _WINDOWS[0]
        began = self._pause.begin(reply, window)
        earliest = self._refused
        if began if earliest is None else reply.sent < earliest.sent:
            self._refused = reply
