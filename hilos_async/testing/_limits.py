"""Rate limits as servers keep them: when a request is refused, and what the refusal says.

Pure: the time is an argument, so the same models serve the fake server and simulations in virtual
time. They know nothing of HTTP beyond the names of header fields, and nothing of how the library
paces itself: they are what it is measured against.
"""

import math
from collections import deque
from dataclasses import KW_ONLY, dataclass
from typing import Literal, get_args

Kind = Literal["sliding-log", "sliding-counter", "fixed-window", "bucket", "leaky"]
HeaderStyle = Literal["none", "split", "policy", "x", "activecampaign"]

# The least wait that is reported: rounding must never give one so short that a simulation which
# moves its clock on by it stands still.
_LEAST_WAIT = 1e-6


@dataclass(frozen=True, slots=True)
class FakeLimit:
    """At most `requests` requests in `per` seconds; the rest are refused and not counted.

    `kind`: "sliding-log" counts what was accepted in the last `per` seconds (as Django REST
    Framework does), "fixed-window" what was accepted since the clock last passed a multiple of
    `per`, "sliding-counter" adds to that a part of the window before: the share of it that lies within
    the last `per` seconds (as Cloudflare and flask-limiter can do), "bucket" lets `requests` pass at
    once and refills evenly, "leaky" lets one pass every `per / requests` seconds and refuses what comes
    sooner (as nginx does).

    `retry_after`: "exact" tells the seconds until a request would pass, rounded up to whole ones;
    a number is told as it is, true or not; "none" tells nothing.

    `lockout`: seconds in which everything is refused, counted from the request that the limit
    itself refused. Requests refused within the lock-out do not prolong it; the first one that the
    limit refuses after it begins another. 0 makes a refusal mere advice.

    `headers`: what every answer says of the limit. "split" is `RateLimit-Limit`, `-Remaining` and
    `-Reset` in seconds; "policy" the newer `RateLimit` and `RateLimit-Policy`; "x" the
    `X-RateLimit-` fields with an epoch as reset; "activecampaign" what its documentation shows:
    a limit, no reset, and a remainder of 3 that a refusal contradicts.
    """

    requests: int
    _: KW_ONLY
    per: float = 1.0
    kind: Kind = "sliding-log"
    retry_after: Literal["exact", "none"] | float = "exact"
    lockout: float = 0.0
    headers: HeaderStyle = "none"

    def __post_init__(self) -> None:
        if type(self.requests) is not int:  # True is an int, but no number of requests.
            raise TypeError(f"FakeLimit takes a whole number of requests, not {self.requests!r}")
        if self.requests < 1:
            raise ValueError(f"FakeLimit takes at least 1 request, not {self.requests}")
        if not (math.isfinite(self.per) and self.per > 0):
            raise ValueError(f"FakeLimit(per=...) takes positive seconds, not {self.per!r}")
        if self.kind not in get_args(Kind):
            raise ValueError(f"FakeLimit(kind=...) takes {get_args(Kind)}, not {self.kind!r}")
        if self.headers not in get_args(HeaderStyle):
            raise ValueError(
                f"FakeLimit(headers=...) takes {get_args(HeaderStyle)}, not {self.headers!r}"
            )
        if not (math.isfinite(self.lockout) and self.lockout >= 0):
            raise ValueError(f"FakeLimit(lockout=...) takes seconds from 0, not {self.lockout!r}")
        told = self.retry_after
        if told not in ("exact", "none") and (
            isinstance(told, str) or not (math.isfinite(told) and told >= 0)
        ):
            raise ValueError(
                f'FakeLimit(retry_after=...) takes "exact", "none" or seconds from 0, not {told!r}'
            )

    def start(self) -> "FakeLimiter":
        """Begin to keep this limit, with nothing accepted yet."""
        return FakeLimiter(self)

    def advice(self, wait: float) -> str | None:
        """Give the `Retry-After` of a refusal that in truth lasts `wait` seconds, if it has one."""
        if self.retry_after == "none":
            return None
        if isinstance(self.retry_after, str):
            return str(math.ceil(wait))
        whole = int(self.retry_after)
        return str(whole if whole == self.retry_after else self.retry_after)


class FakeLimiter:
    """One limit being kept. Times are seconds of any one clock that never goes back."""

    def __init__(self, limit: FakeLimit) -> None:
        self._limit = limit
        # Both reckonings are always kept, so that the limit can change its kind while it runs.
        self._log: deque[float] = deque()
        self._level = 0.0
        self._level_at = 0.0
        self._locked_until = -math.inf

    @property
    def limit(self) -> FakeLimit:
        """The limit in force."""
        return self._limit

    def change(self, limit: FakeLimit) -> None:
        """Go on under another limit, with what the old one accepted still counted.

        The old one forgot what had left its window: a longer window begins with what there is.
        """
        self._limit = limit
        self._level = min(self._level, limit.requests)

    def ask(self, now: float) -> float | None:
        """Ask for one request at `now`: None if it is accepted, else the seconds it is too early.

        A request that comes those seconds later, with none between, is accepted.
        """
        self._forget(now)
        wait = self._wait(now)
        locked = self._locked_for(now)
        if locked:
            return max(locked, wait)
        if wait:
            self._locked_until = now + self._limit.lockout
            return max(self._limit.lockout, wait)
        self._log.append(now)
        self._level += 1
        return None

    def headers(self, now: float, *, epoch: float) -> dict[str, str]:
        """Give the header fields that an answer sent at `now` (`epoch` by the calendar) has."""
        self._forget(now)
        limit, remaining = self._limit, self._remaining(now)
        reset = math.ceil(self._reset(now))
        match limit.headers:
            case "none":
                return {}
            case "split":
                return {
                    "RateLimit-Limit": str(limit.requests),
                    "RateLimit-Remaining": str(remaining),
                    "RateLimit-Reset": str(reset),
                }
            case "policy":
                window = math.ceil(limit.per)
                return {
                    "RateLimit-Policy": f'"account";q={limit.requests};w={window}',
                    "RateLimit": f'"account";r={remaining};t={reset}',
                }
            case "x":
                return {
                    "X-RateLimit-Limit": str(limit.requests),
                    "X-RateLimit-Remaining": str(remaining),
                    "X-RateLimit-Reset": str(math.ceil(epoch + reset)),
                }
            case "activecampaign":
                return {"RateLimit-Limit": str(limit.requests), "RateLimit-Remaining": "3"}

    def _forget(self, now: float) -> None:
        limit, log = self._limit, self._log
        if limit.kind in ("fixed-window", "sliding-counter"):
            # By the window's number: its computed beginning is not the same float for every `now`.
            oldest = now // limit.per - (limit.kind == "sliding-counter")
            while log and log[0] // limit.per < oldest:
                log.popleft()
        else:
            while log and now - log[0] >= limit.per:
                log.popleft()
        drained = (now - self._level_at) * limit.requests / limit.per
        self._level = max(0.0, self._level - max(0.0, drained))
        self._level_at = now

    def _wait(self, now: float) -> float:
        limit, log = self._limit, self._log
        if limit.kind == "leaky":
            wait = log[-1] + limit.per / limit.requests - now if log else 0.0
            wait = wait if wait > 1e-9 else 0.0
        elif limit.kind == "bucket":
            excess = self._level + 1 - limit.requests
            wait = excess * limit.per / limit.requests if excess > 1e-9 else 0.0
        elif limit.kind == "sliding-counter":
            wait = self._wait_for_counter(now)
        elif len(log) < limit.requests:
            wait = 0.0
        elif limit.kind == "fixed-window":
            wait = limit.per - now % limit.per
        else:
            # Not the oldest: after the limit dropped, the log holds more than it now allows.
            wait = limit.per - (now - log[-limit.requests])
        return max(wait, _LEAST_WAIT) if wait else 0.0

    def _counted(self, now: float) -> tuple[int, int, float]:
        """Requests in the window before, those in this one, and the share of this one that is over."""
        per = self._limit.per
        before = sum(at // per < now // per for at in self._log)
        return before, len(self._log) - before, now % per / per

    def _wait_for_counter(self, now: float) -> float:
        limit, (before, here, over) = self._limit, self._counted(now)
        free = limit.requests - here
        if free <= 0:  # not in this window any more, and then as soon as little enough of it counts
            return (1 - over + 1 - limit.requests / here) * limit.per
        wait = 1 - over - free / before if before else 0.0
        return wait * limit.per if wait > 1e-9 else 0.0

    def _locked_for(self, now: float) -> float:
        return max(0.0, self._locked_until - now) if self._limit.lockout else 0.0

    def _remaining(self, now: float) -> int:
        if self._locked_for(now):
            return 0
        limit = self._limit
        if limit.kind == "sliding-counter":
            before, here, over = self._counted(now)
            free = limit.requests - here
            passing = math.floor(free - before * (1 - over) + 1e-9 * max(1, before)) + 1
            return max(0, min(free, passing))
        used = self._level if limit.kind == "bucket" else len(self._log)
        return max(0, math.floor(limit.requests - used + 1e-9))

    def _reset(self, now: float) -> float:
        limit = self._limit
        if limit.kind == "bucket":
            reset = self._level * limit.per / limit.requests
        elif limit.kind == "leaky":
            reset = self._wait(now)
        elif limit.kind in ("fixed-window", "sliding-counter"):
            reset = limit.per - now % limit.per
        else:
            reset = limit.per - (now - self._log[0]) if self._log else 0.0
        return max(reset, self._locked_for(now))
