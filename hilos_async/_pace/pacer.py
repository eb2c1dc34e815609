"""The protocol between a session and whatever paces it: what a pacer is asked and told.

A pacer computes when the next request may leave. It knows no HTTP, starts no task and never sleeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from hilos_async._checks import positive


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


class Quota(msgspec.Struct, frozen=True, gc=False):
    """What a reply's header fields say of the limit; ``None`` where they say nothing.

    ``requests`` in ``per`` seconds are allowed, ``remaining`` of them are left until, in ``reset``
    seconds, there are more.
    """

    requests: int | None = None
    per: float | None = None
    remaining: int | None = None
    reset: float | None = None


Verdict = Literal["accepted", "refused", "busy", "failed"]


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What a pacer is told about a request that has ended; times are on the monotonic clock.

    ``accepted``: the server worked on it, whatever the answer. ``refused``: 429, too many requests.
    ``busy``: another reply that asks to wait (a 503 with Retry-After). ``failed``: no usable reply,
    or a 5xx; the server may or may not have counted it; a cancelled request counts as such.
    ``retry_after``: the seconds that a refused or busy reply asks to wait, ``None`` where it does not
    say; ``wait``: those that the session obeys, 0 if it finds them too many.
    """

    verdict: Verdict
    sent: float
    received: float
    retry_after: float | None = None
    wait: float | None = None
    quota: Quota | None = None


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """A pacer's state at one moment."""

    rate: float | None  # requests per second it spaces by; None: unbounded
    limit: RateLimit | None  # known or learned


class Pacer(Protocol):
    """What a session asks before each request.

    Calls come from one event loop; ``reserve`` is never entered twice at once by the same session.
    """

    def bind(self, scope: str) -> None:
        """Hear whose limit this is: the session says it once, before anything else.

        ``scope`` is a digest of base URL and key: equal for equal ones, and it tells neither.
        """
        ...

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

    async def flush(self) -> None:
        """Hear that a session closes: end what runs in the background, and tell what is untold.

        The pacer may serve another session meanwhile, or later.
        """
        ...

    @property
    def paused_until(self) -> float:
        """When the pause ends, on the monotonic clock; in the past when there is none."""
        ...

    def pace(self) -> Pace:
        """The state at this moment, for ``HilosSession.stats``."""
        ...
