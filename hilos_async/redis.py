"""RedisPacer: one limit for a whole fleet, reckoned in Redis or Valkey.

Knows when to ask for slots, what Redis must hear of them, and what to do while it is gone. Refuses to
know HTTP, and how Redis is asked: that stands in ``_pace/redis_script.py``. How slots are spaced and a
limit is learned stands in ``_pace/lua/``.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import random
import time
from collections import deque
from typing import Final, Literal, NamedTuple
from uuid import uuid4

import anyio

from hilos_async import _checks, _log
from hilos_async._pace.pacer import Pace, RateLimit, Reply
from hilos_async._pace.redis_script import (
    BLOCK,
    Answer,
    AsyncRedis,
    Event,
    Report,
    call,
    quota_fields,
    redis_errors,
)
from hilos_async._pace.state import told
from hilos_async.errors import TransportError

__all__ = ["AsyncRedis", "RedisPacer"]

_ANSWERS_IN: Final = 0.5  # seconds that a call may take
_ASK_AGAIN: Final = 1.0  # seconds between two calls while Redis is gone
_UNTOLD: Final = 1_000  # requests that are kept for Redis while it is gone
_ABOUT_NOW: Final = 0.01  # seconds; a slot that lies no longer ago may still be used
_PAD: Final = 0.01  # what a share leaves of the limit: nobody tells this process about the others
_BLIND: Final = 0.05  # seconds, until Redis says how long the pause is
_LONGEST_BLIND: Final = 20.0


class _Happened(NamedTuple):
    """A departure or a reply that Redis has yet to hear of."""

    sent: float
    reply: Reply | None
    spread: float


class RedisPacer:
    """Paces all processes that share a Redis or Valkey as if they were one.

    ``client``: a ``redis.asyncio`` or ``valkey.asyncio`` client; closing it stays the caller's.
    ``limit``: what all of them together keep just below; ``None`` learns it for all of them from
    refusals, as ``pace="learn"`` does in one process. All give the same.
    ``key``: the name of the budget. By default a digest of base URL and API key, so that sessions
    share a budget when both are the same. It can be read in Redis: never the API key itself.
    ``on_outage``: what happens while Redis is gone or takes longer than half a second. ``"raise"``:
    lookups fail with a ``TransportError`` whose ``transient`` is false. ``"share"``: this process goes
    on with its share of the last limit, which is the limit divided by the processes that were active
    in the last minute; before the first contact there is none, and lookups fail. Either way Redis is
    asked again at most once a second.

    In Redis are two keys that begin with ``hilos_async:{key}``, in one slot of a cluster, and that
    expire two days after their last use. Redis 5 or any Valkey does. Raises ``TypeError`` or
    ``ValueError`` for an argument that cannot work, a synchronous client among them.
    """

    def __init__(
        self,
        client: AsyncRedis,
        limit: RateLimit | None = None,
        *,
        key: str | None = None,
        on_outage: Literal["raise", "share"] = "raise",
    ) -> None:
        if not inspect.iscoroutinefunction(getattr(client, "execute_command", None)):
            raise TypeError(
                f"client={type(client).__module__}.{type(client).__qualname__} is no asyncio client: "
                "give redis.asyncio.Redis(...) or valkey.asyncio.Valkey(...)"
            )
        if limit is not None:
            _checks.instance("limit", limit, RateLimit)
        if on_outage not in ("raise", "share"):
            raise ValueError(f"on_outage={on_outage!r} must be 'raise' or 'share'")
        self._client = client
        self._given = limit
        self._key = None if key is None else _checked_key(key)
        self._shares = on_outage == "share"
        self._clock = time.monotonic
        self._scope: str | None = None
        self._id = uuid4().hex[:12]
        # what Redis said
        self._limit = limit
        self._interval: float | None = None
        self._processes = 1
        self._again = _BLIND
        self._slots: deque[float] = deque()  # reserved, and not used yet
        # what it shall hear
        self._until = 0.0
        self._in_a_row = 0
        self._happened: list[_Happened] = []
        self._told = 0  # of what happened, until now
        self._log = _log.LimitLog()
        self._sent: deque[float] = deque()  # departures of the last moment
        self._last = 0.0  # the slot that was given out last
        self._replied: asyncio.Event | None = None
        # how the asking goes
        self._call: asyncio.Task[None] | None = None
        self._is_urgent = False
        self._outage: BaseException | None = None
        self._ask_again = 0.0
        self._joined_until = 0.0  # a process that comes back keeps to its share as well until then

    def bind(self, scope: str) -> None:
        """Hear whose limit this is.

        Raises ``ValueError`` if there is another one already, and no ``key`` says that they are one.
        """
        if self._key is None and self._scope not in (None, scope):
            raise ValueError(
                "this RedisPacer serves another base URL or API key already: make one RedisPacer for "
                "each, or give it key= if the server counts them as one"
            )
        self._scope = scope

    async def reserve(self) -> float:
        """Reserve the next slot of the fleet and return its time.

        One call of Redis, or none while a block of slots lasts: a process that uses many gets those
        of 50 ms at once. Where nobody may leave before a reply has come, it asks again then.
        Cancelled meanwhile, the slot is kept for the next who asks. Raises ``TransportError`` in an
        outage, as ``on_outage`` says.
        """
        now = self._clock()
        while self._slots and self._slots[0] < now - _ABOUT_NOW:
            self._slots.popleft()  # nobody came for it in time
        while not self._slots:
            now = self._clock()
            if self._outage is not None and (self._shares or now < self._ask_again):
                if now >= self._ask_again:
                    self._ask(0)
                return self._alone(self._outage, now)
            await asyncio.shield(self._ask(self._block(now)))
            if self._slots:
                break
            if self._outage is not None:
                return self._alone(self._outage, self._clock())
            await self._reply()
        slot = self._slots.popleft()
        if slot < self._joined_until:
            slot = max(slot, self._last + self._share())
        self._last = slot
        return slot

    def sent(self, at: float) -> None:
        """Hear that a request left."""
        self._sent.append(at)
        self._happened.append(_Happened(at, None, 0.0))

    def report(self, reply: Reply) -> None:
        """Hear how a request ended.

        A refusal pauses this process at once and the others as soon as Redis has heard of it, which
        takes a call in the background. All else goes along when the next slot is reserved.
        """
        self._happened.append(_Happened(reply.sent, reply, random.random()))
        if reply.verdict == "accepted":
            self._in_a_row = 0
        elif reply.verdict in ("refused", "busy"):
            self._in_a_row += 1
            blind = min(_LONGEST_BLIND, _BLIND * 2.0 ** min(self._in_a_row - 1, 30))
            wait = blind if reply.wait is None else reply.wait
            self._until = max(self._until, reply.received + wait)
            self._slots.clear()  # they lie in the pause
        quota = reply.quota
        tells = quota is not None and quota.remaining == 0 and self._limit is None
        # In a pause nobody reserves, and at its end Redis must know all that was accepted.
        if tells or reply.verdict in ("refused", "busy") or reply.received < self._until:
            self._is_urgent = True
            if self._outage is None:
                self._ask(0)
        if self._replied is not None:
            self._replied.set()

    async def flush(self) -> None:
        """Tell Redis what it has yet to hear, so that a refusal of the last moment reaches the fleet.

        Afterwards no call is under way, and the client may be closed. It takes two answers of Redis at
        most; where it is gone, nothing is told.
        """
        with anyio.CancelScope(shield=True):
            if self._call is not None and not self._call.done():
                await asyncio.shield(self._call)
            if self._outage is None and self._happened:
                await asyncio.shield(self._ask(0))

    @property
    def paused_until(self) -> float:
        """When the pause ends, as far as this process knows: the longest of its own and the fleet's."""
        return self._until

    def pace(self) -> Pace:
        """The state of the whole fleet, as Redis told it last; in an outage, this process's share.

        No rate before Redis has answered, and none while no limit has been met.
        """
        rate = None
        if self._interval is not None and self._outage is not None:
            rate = 1 / self._share()
        elif self._interval is not None and self._limit is not None:
            rate = 1 / self._interval
        return Pace(rate=rate, limit=self._limit)

    async def _reply(self) -> None:
        """Wait until one of this process's requests has ended, or another's may have."""
        self._replied = asyncio.Event()
        try:
            async with asyncio.timeout(self._again):
                await self._replied.wait()
        except TimeoutError:
            pass
        finally:
            self._replied = None

    def _block(self, now: float) -> int:
        """How many slots to reserve: what this process used in the time that a block may last."""
        while self._sent and self._sent[0] < now - BLOCK:
            self._sent.popleft()
        return max(1, len(self._sent))

    def _share(self) -> float:
        """Seconds between two requests of this process when nobody tells it about the others."""
        assert self._interval is not None
        if self._limit is None:
            return self._interval * self._processes
        # A whole number in a window: the shares of all, in whatever phase, then fit into it.
        share = self._limit.requests / self._processes
        return self._limit.per / (math.floor(share) if share >= 1 else share) * (1 + _PAD)

    def _alone(self, outage: BaseException, now: float) -> float:
        if self._shares and self._interval is not None:
            self._last = max(now, self._until, self._last + self._share())
            return self._last
        missing = " and has not answered yet, so that there is no share" if self._shares else ""
        raise TransportError(
            f"no slot from Redis, which fails{missing} ({type(outage).__name__}: {outage}): nothing is "
            "sent without the fleet's pace; bring Redis back"
            + ("" if self._shares else ", or go on with RedisPacer(on_outage='share')"),
            transient=False,
        ) from outage

    def _ask(self, slots: int) -> asyncio.Task[None]:
        """Start a call, unless one is under way; whoever waits for it may be cancelled, it is not."""
        if self._call is None or self._call.done():
            self._call = asyncio.get_running_loop().create_task(self._exchange(slots))
        return self._call

    async def _exchange(self, slots: int) -> None:
        while True:
            self._is_urgent = False
            happened, self._happened = self._happened, []
            try:
                async with asyncio.timeout(_ANSWERS_IN):
                    report = self._new_report(slots, happened, self._clock())
                    answer = await call(self._client, self._budget(), report)
            except redis_errors() as error:
                # It may have been heard: the script takes no harm from hearing it twice.
                self._happened = happened + self._happened
                lost = max(0, len(self._happened) - _UNTOLD)
                del self._happened[:lost]
                self._told += lost
                if self._outage is None:
                    _log.outage(error)
                self._outage, self._ask_again = error, self._clock() + _ASK_AGAIN
                return
            self._told += len(happened)
            self._take(answer, self._clock())
            if not self._is_urgent:
                return
            slots = 0

    def _budget(self) -> str:
        name = self._key or self._scope
        if name is None:
            raise RuntimeError("this RedisPacer has no budget yet: HilosSession(pace=...) binds it")
        return f"hilos_async:{{{name}}}"

    def _new_report(self, slots: int, happened: list[_Happened], now: float) -> Report:
        report = Report(self._id, slots, self._told + 1)
        if self._given is not None:
            kept = told(self._given.requests, self._given.per)
            report.limit = (kept.requests, kept.per)
        elif self._limit is not None:
            report.known = (self._limit.requests, self._limit.per)
        report.events = [_event(now, *one) for one in happened]
        return report

    def _take(self, answer: Answer, ended: float) -> None:
        if self._outage is not None:
            _log.outage_over()
            self._outage = None
            # Until the others are back they keep to their shares, and so does this one.
            self._joined_until = ended + _ASK_AGAIN + _ANSWERS_IN if self._shares else 0.0
        self._interval, self._again = answer.interval, answer.again
        # A Redis that was restarted has yet to see the other processes: until they have called, a
        # smaller number of them is not believed.
        if ended >= self._joined_until or answer.processes > self._processes:
            self._processes = answer.processes
        if self._given is None:
            self._limit = None if answer.limit is None else RateLimit(*answer.limit)
            if self._limit is not None:
                known = answer.known or self._limit.requests
                self._log.tell(RateLimit(known, self._limit.per), self._limit)
        if answer.pause > 0:
            self._until = max(self._until, ended + answer.pause)
        # Counted from the end of the call: never early, whenever in it Redis read its clock.
        self._slots.extend(ended + float(wait) for wait in answer.waits)


def _checked_key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"key must be a str, not {type(key).__name__}")
    # The braces around it make Redis Cluster keep all keys of a budget on one node.
    if not key or "{" in key or "}" in key:
        raise ValueError(f"key={key!r} must be a name that is not empty and has no braces in it")
    return key


def _event(now: float, sent: float, reply: Reply | None, spread: float) -> Event:
    if reply is None:
        return Event(now - sent)
    quota = quota_fields(reply.quota)
    ago = now - reply.received
    return Event(now - sent, reply.verdict, ago, reply.retry_after, reply.wait, quota, spread)
