"""Who asks: the library's own gate and pacers, and three ways in which others do it.

The peers are written from what their projects publish. All of them work on the same number of
lookups at once, and none is told the limit.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING
from uuid import UUID

from tenacity import AsyncRetrying, TryAgain, retry_if_exception_type, wait_random_exponential

from benchmarks.pace_sim.world import CONCURRENCY
from hilos_async._api.endpoints import EXECUTION
from hilos_async._api.replies import Reader
from hilos_async._pace.known import KnownPacer
from hilos_async._pace.learning import LearningPacer
from hilos_async._wire.call import Call, Caller
from hilos_async._wire.gate import Gate
from hilos_async._wire.options import Bounds
from hilos_async._wire.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.pace_sim.world import Server
    from hilos_async._pace.pacer import Pacer, RateLimit, Verdict

_ID = UUID(int=0)
_READER = Reader(EXECUTION)
_BOUNDS = Bounds(
    timeout=60.0,
    attempt_timeout=15.0,
    retry=RetryPolicy(),
    max_concurrency=CONCURRENCY,
    max_response_bytes=1_048_576,
)


class Hilos:
    """This library: its gate in front of one of its pacers, asked as a session asks them."""

    def __init__(self, pacer: Pacer, clock: Callable[[], float]) -> None:
        self.gate = Gate(pacer, CONCURRENCY, clock=clock)
        self._clock = clock
        self._batch = Caller(is_batch=True)

    async def lookup(self, server: Server) -> bool:
        """One of a batch's lookups."""
        await self.ask(server, self._batch)
        return True

    async def ask(self, server: Server, caller: Caller) -> float:
        """Ask until it is answered; the seconds that the first request had to wait."""
        call = Call(_READER, EXECUTION.path(_ID), _ID, caller, _BOUNDS, self._clock(), None)
        first_sent = None
        while True:
            await self.gate.enter(call)
            first_sent = first_sent or call.sent
            answer = await server.ask()
            verdict: Verdict = "accepted" if answer.ok else "refused"
            self.gate.leave(call, verdict, answer.retry_after, answer.retry_after, answer.quota)
            if answer.ok:
                return first_sent - call.started


def learning(clock: Callable[[], float]) -> Hilos:
    """``pace="learn"``."""
    return Hilos(LearningPacer(clock=clock), clock)


def knowing(limit: RateLimit | None, clock: Callable[[], float]) -> Hilos:
    """``pace=RateLimit(...)``; with ``None``, ``pace="off"``."""
    return Hilos(KnownPacer(limit, clock=clock), clock)


class FullJitter:
    """Retries with full jitter, by tenacity itself: for ever, at most a minute apart."""

    def __init__(self, _clock: Callable[[], float]) -> None:
        self._wait = wait_random_exponential(max=60)

    async def lookup(self, server: Server) -> bool:
        """Ask until it is answered."""
        async for attempt in AsyncRetrying(
            wait=self._wait, retry=retry_if_exception_type(TryAgain), sleep=asyncio.sleep
        ):
            with attempt:
                if not (await server.ask()).ok:
                    raise TryAgain
        return True


class Stainless:
    """The API clients that Stainless generates: 2 retries, which obey a Retry-After of a minute."""

    def __init__(self, _clock: Callable[[], float]) -> None:
        pass

    async def lookup(self, server: Server) -> bool:
        """Ask three times at most."""
        for retry in range(3):
            answer = await server.ask()
            if answer.ok:
                return True
            if answer.retry_after is not None and 0 < answer.retry_after <= 60:
                await asyncio.sleep(answer.retry_after)
            else:
                await asyncio.sleep(min(8.0, 0.5 * 2.0**retry) * random.uniform(0.75, 1.0))
        return False


class BotocoreAdaptive:
    """Retry mode "adaptive" of the AWS SDKs, with 10 attempts.

    Written from the algorithm in the SDKs' reference guide ("Retry behavior"): a token bucket whose
    rate follows CUBIC and is at most twice what is measured, and a quota of retries.
    """

    ATTEMPTS = 10
    BETA, SCALE, SMOOTH = 0.7, 0.4, 0.8
    LEAST_RATE = 0.5

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._quota = 500
        self._throttled = False  # whether it ever was: only then the bucket holds anybody back
        self._tokens, self._filled = 0.0, clock()
        self._rate = 1.0
        self._measured, self._count, self._measured_at = 0.0, 0, clock()
        self._most, self._most_at = 0.0, clock()

    async def lookup(self, server: Server) -> bool:
        """Ask until it is answered, the attempts are used up, or the quota of retries is."""
        paid = 0
        for attempt in itertools.count(1):
            await self._take_token()
            answer = await server.ask()
            self._adapt(answer.ok)
            if answer.ok:
                self._quota = min(500, self._quota + (paid or 1))
                return True
            if attempt == self.ATTEMPTS or self._quota < 5:
                break
            self._quota, paid = self._quota - 5, 5
            await asyncio.sleep(random.random() * min(20.0, 2.0 ** (attempt - 1)))
        return False

    async def _take_token(self) -> None:
        while self._throttled:
            self._fill()
            if self._tokens >= 1:
                self._tokens -= 1
                return
            # The SDK looks again at each change of the rate; ten times a second serves it as well.
            await asyncio.sleep(min(0.1, (1 - self._tokens) / self._rate + 1e-6))

    def _fill(self) -> None:
        now = self._clock()
        fresh = (now - self._filled) * self._rate
        self._tokens, self._filled = min(max(1.0, self._rate), self._tokens + fresh), now

    def _adapt(self, ok: bool) -> None:
        self._measure()
        now = self._clock()
        if ok:
            to_most = (self._most * (1 - self.BETA) / self.SCALE) ** (1 / 3)
            rate = self.SCALE * (now - self._most_at - to_most) ** 3 + self._most
        else:
            known = min(self._measured, self._rate) if self._throttled else self._measured
            self._most, self._most_at = known, now
            self._throttled = True
            rate = known * self.BETA
        self._fill()
        self._rate = max(self.LEAST_RATE, min(rate, 2 * self._measured))
        self._tokens = min(self._tokens, max(1.0, self._rate))

    def _measure(self) -> None:
        self._count += 1
        half_second = self._clock() // 0.5 * 0.5
        if half_second > self._measured_at:
            rate = self._count / (half_second - self._measured_at)
            self._measured = rate * self.SMOOTH + self._measured * (1 - self.SMOOTH)
            self._count, self._measured_at = 0, half_second
