"""Who sends next: the queue of a session in front of its pacer.

Every call that waits, waits here: for its turn, for a slot, or for the end of its back-off. So closing
the session, or ending a batch, reaches all of them at once. A task that sleeps holds no slot.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import math
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from hilos_async import _log
from hilos_async._api.model import Model
from hilos_async._pace.pacer import RateLimit, Reply
from hilos_async._wire.silence import Silence

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilos_async._pace.pacer import Pacer, Quota, Verdict
    from hilos_async._wire.call import Call, Caller
    from hilos_async.errors import HilosError

_DEAD_AFTER: Final = 10  # failures in a row, with no success between them
_TIMER: Final = 0.0005  # seconds; a loop sleeps a millisecond or not at all
# Seconds. A leader that was cancelled leaves its slot to the next one. If the slot is older than this,
# the next one reserves a new slot: the pacer has counted on, and two requests would leave together.
_STALE: Final = 0.05
_BATCH_TURN: Final = 10  # while both wait, every so many turns is a batch's


class Stats(Model, frozen=True, kw_only=True):
    """What a session has done and how it stands, at one moment.

    ``requests`` were sent, ``retries`` of them for a lookup that had failed before, ``refusals`` were
    answered by asking everybody to wait; ``in_flight`` are under way and ``waiting`` lookups wait.
    ``rate`` is the spacing in requests per second (``None``: unbounded), ``limit`` the limit behind it,
    ``paused_for`` the seconds until the pause ends (0.0: there is none).
    """

    requests: int
    retries: int
    refusals: int
    in_flight: int
    waiting: int
    rate: float | None
    limit: RateLimit | None
    paused_for: float


class Gate:
    """Lets requests out one after another, each in a slot of the pacer.

    One task at a time leads: it reserves a slot, sleeps until the slot's time, and sends. Single calls
    go before those of a batch. A call that is sent again goes to the front of its class. After a pause
    one request, the probe, goes first, and the others wait for its reply.
    """

    def __init__(self, pacer: Pacer, max_concurrency: int, *, clock: Callable[[], float]) -> None:
        self.pacer = pacer
        self.requests = self.retries = self.refusals = 0
        self.in_flight = 0
        self._limit = max_concurrency
        self._clock = clock
        self._waiters: dict[asyncio.Future[None], Call[Any]] = {}  # queued, leading or backing off
        self._singles: deque[asyncio.Future[None]] = deque()
        self._batches: deque[asyncio.Future[None]] = deque()
        self._turns = 0
        self._passed = 0  # how often a batch's leader stepped aside since a batch's call was sent
        self._entitled = False  # it is the turn of a batch: its leader does not step aside
        self._leading = False
        self._slot: float | None = None  # reserved, and not used yet
        self.silence = Silence()
        self._failures = 0
        self._dead_until = 0.0
        self._probe_next = False
        self._probe: Call[Any] | None = None
        self._told_pause = False  # this pause has been logged
        self._closed: Callable[[], HilosError] | None = None
        self.closing: set[Callable[[], None]] = set()  # called when the session closes

    @property
    def paused_until(self) -> float:
        """When the pause ends, on the clock; in the past when there is none."""
        return max(self.pacer.paused_until, self._dead_until)

    def stats(self) -> Stats:
        """The counts and the pace at this moment."""
        pace = self.pacer.pace()
        return Stats(
            requests=self.requests,
            retries=self.retries,
            refusals=self.refusals,
            in_flight=self.in_flight,
            waiting=len(self._waiters),
            rate=pace.rate,
            limit=pace.limit,
            paused_for=max(0.0, self.paused_until - self._clock()),
        )

    async def enter(self, call: Call[Any]) -> None:
        """Wait for a slot and take it; ``leave`` must follow.

        Raises ``DeadlineExceededError`` as soon as it is clear that the slot would come too late,
        ``SessionClosedError``, or the error that the call's batch was stopped with.
        """
        self._refuse_stopped(call)
        if self._leading or self._is_shut():
            await self._queue(call, first=call.attempts > 0)  # returns as the leader
        else:
            self._entitled = False
        while True:
            self._leading = True
            try:
                sent = await self._take_slot(call)
                if sent is not None:
                    self._count(call, sent)
                    return
            finally:
                self._leading = False
                self._advance()
            # A single lookup has come meanwhile, and gets the slot; unless it has given up since.
            if self._leading or self._is_shut():
                await self._queue(call, first=True)

    def _count(self, call: Call[Any], sent: float) -> None:
        call.sent = sent
        self.in_flight += 1
        self.requests += 1
        self.retries += call.attempts > 0
        call.attempts += 1
        if call.caller.is_batch:
            self._passed = 0
        if self._probe_next:
            self._probe_next, self._probe = False, call
            self._told_pause = False

    def leave(
        self,
        call: Call[Any],
        verdict: Verdict | None,
        retry_after: float | None = None,
        wait: float | None = None,
        quota: Quota | None = None,
    ) -> None:
        """Give the place back and tell the pacer how it went; ``None``: it was cancelled."""
        self.in_flight -= 1
        if self._probe is call:
            self._probe = None
            self._probe_next = verdict is None
        self.pacer.report(
            Reply(verdict or "failed", call.sent, self._clock(), retry_after, wait, quota)
        )
        if verdict == "accepted":
            self._failures = 0
            self.silence.accepted()
        elif verdict == "failed":
            self._failures += 1
            if self._failures >= _DEAD_AFTER:
                if self._failures == _DEAD_AFTER:
                    _log.server_down(_DEAD_AFTER)
                # The server seems dead: everybody waits as long as this call backs off.
                self._dead_until = max(self._dead_until, self._clock() + call.delay)
                self._hold(call.last_error)
        elif verdict is not None:
            self.refusals += 1
            self._hold(call.last_error)
        self._advance()

    async def back_off(self, call: Call[Any], delay: float) -> None:
        """Sleep before the next attempt.

        Raises ``DeadlineExceededError`` at once if the sleep would end after the deadline.
        """
        self._refuse_stopped(call)
        if self._clock() + delay > min(call.deadline, call.caller.deadline):
            raise call.too_late()
        _log.retry(call.path, call.id, call.attempts, delay, call.last_error)
        if delay > 0:
            await self._sleep(call, delay)

    def promote(self, call: Call[Any]) -> None:
        """Let a batch's lookup that waits in the queue go with the single ones: one wants it too."""
        for future, waiting in self._waiters.items():
            if waiting is call and future in self._batches:
                self._batches.remove(future)
                self._singles.append(future)
                return

    def stop(self, caller: Caller, error: HilosError) -> None:
        """Let no lookup of the caller send again: those that wait fail now, with that error."""
        caller.stopped = functools.partial(copy.copy, error)
        self._fail_waiters(lambda call: copy.copy(error) if call.caller is caller else None)

    def close(self, make_error: Callable[[], HilosError]) -> None:
        """Let nothing out any more: all that wait fail now, with that error."""
        self._closed = make_error
        self._fail_waiters(lambda call: make_error())
        for tell in list(self.closing):
            tell()

    def _is_shut(self) -> bool:
        return (
            self._probe is not None
            or self.in_flight >= self._limit
            or bool(self._singles)
            or bool(self._batches)
        )

    def _refuse_stopped(self, call: Call[Any]) -> None:
        stopped = self._closed or call.caller.stopped
        if stopped is not None:
            raise stopped()

    async def _queue(self, call: Call[Any], *, first: bool) -> None:
        line = self._batches if call.caller.is_batch else self._singles
        future = asyncio.get_running_loop().create_future()
        if first:
            line.appendleft(future)
        else:
            line.append(future)
        patience = call.wait_deadline - self._clock()
        if patience < math.inf:
            timer = future.get_loop().call_later(patience, _fail, future, call.too_late)
        else:
            timer = None
        self._waiters[future] = call
        try:
            if self.paused_until > call.wait_deadline:
                raise call.too_late()
            await future
        except BaseException:
            if not future.cancel() and _retrieve(future) is None and not future.cancelled():
                self._leading = False  # cancelled in the moment it was handed the lead
                self._advance()
            raise
        finally:
            del self._waiters[future]
            if timer is not None:
                timer.cancel()

    async def _take_slot(self, call: Call[Any]) -> float | None:
        while True:
            self._refuse_stopped(call)
            now = self._clock()
            pause = self.paused_until
            if pause > now:
                self._probe_next = True
                self._tell_pause(None)  # if nobody here saw what began it
                self._slot = None  # it lies in the pause
                at = pause
            else:
                if self._slot is None or self._slot < now - _STALE:
                    self._slot = await self.pacer.reserve()
                    now = self._clock()
                at = self._slot
            if at - now <= _TIMER:
                if self._singles and call.caller.is_batch and not self._entitled:
                    self._passed += 1
                    if self._passed < _BATCH_TURN:
                        return None
                self._slot = None
                self.pacer.sent(now)
                return now
            if at > call.wait_deadline:
                raise call.too_late()
            self._refuse_stopped(call)  # meanwhile: nobody wakes who is in the pacer
            await self._sleep(call, at - now)

    async def _sleep(self, call: Call[Any], delay: float) -> None:
        future = asyncio.get_running_loop().create_future()
        timer = future.get_loop().call_later(delay, _wake, future)
        self._waiters[future] = call
        try:
            await future
        finally:
            timer.cancel()
            del self._waiters[future]
            _retrieve(future)

    def _advance(self) -> None:
        """Hand the lead to whoever is next, if anyone may go."""
        if self._leading or self._probe is not None or self.in_flight >= self._limit:
            return
        while line := self._next_line():
            if _wake(line.popleft()):
                self._leading = True
                return

    def _next_line(self) -> deque[asyncio.Future[None]] | None:
        self._entitled = False
        if not self._singles or not self._batches:
            self._turns = 0
            return self._singles or self._batches or None
        self._turns += 1
        self._entitled = self._turns % _BATCH_TURN == 0
        return self._batches if self._entitled else self._singles

    def _tell_pause(self, error: HilosError | None) -> None:
        """Log the pause, once until a request has left after it."""
        left = self.paused_until - self._clock()
        if left > 0 and not self._told_pause:
            self._told_pause = True
            _log.paused(left, error)

    def _hold(self, error: HilosError | None) -> None:
        """Let one request go first after the pause, and fail those who cannot wait for its end."""
        self._probe_next = True
        self._tell_pause(error)
        pause = self.paused_until
        self._fail_waiters(lambda call: call.too_late() if call.wait_deadline < pause else None)

    def _fail_waiters(self, verdict: Callable[[Call[Any]], HilosError | None]) -> None:
        for future, call in list(self._waiters.items()):
            error = verdict(call)
            if error is not None and not future.done():
                future.set_exception(error)


def _wake(future: asyncio.Future[None]) -> bool:
    """Wake the task that waits; ``False`` if it is gone or awake already."""
    if future.done():
        return False
    future.set_result(None)
    return True


def _fail(future: asyncio.Future[None], make_error: Callable[[], HilosError]) -> None:
    if not future.done():
        future.set_exception(make_error())


def _retrieve(future: asyncio.Future[None]) -> BaseException | None:
    """The future's error, so that asyncio does not log it as never retrieved."""
    return future.exception() if future.done() and not future.cancelled() else None
