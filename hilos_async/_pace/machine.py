"""The pacer of a whole machine: one state for all processes, in a file of the user's own.

Thin: when the next request may leave stands in `reckoning.py`, how the file is shared in
`state_file.py`. It never waits for the lock with the loop: whoever finds it held asks again later.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Final

from hilos_async import _checks, _log
from hilos_async._pace import reckoning, slots, state_file
from hilos_async._pace.pacer import Pace, RateLimit, Reply
from hilos_async._pace.state import State, told

_HELD: Final = 0.001  # seconds until a lock that is held is tried again
_STUCK: Final = 1.0  # seconds after which a holder that writes nothing is stopped, not slow
_ALONE: Final = 10.0  # seconds until a file that failed is tried again
_AHEAD: Final = 0.02  # seconds before its time that a slot is reserved, or one interval


class MachinePacer:
    """Paces all processes of this machine and user as if they were one, without a server.

    ``limit``: what all of them together keep just below; ``None`` learns it for all of them, as
    ``pace="learn"`` does in one process, and keeps what was learned for a day, for those that start
    later. All give the same. ``name``: the name of the budget. By default a digest of base URL and API
    key, so that sessions share a budget when both are the same; name it where several keys belong to one
    account.

    The state is a file in the user's cache directory (``XDG_CACHE_HOME``, by default ``~/.cache``, on
    macOS ``~/Library/Caches``), which only the user can read; the API key is not in it. Where it cannot
    be written, this process keeps the pace alone, and one warning says so. A process that is killed
    takes nothing with it. Containers share a pace only if they share that directory; otherwise take a
    ``RedisPacer``.

    Linux and macOS. Raises ``TypeError`` or ``ValueError`` for an argument that cannot work.
    """

    def __init__(self, limit: RateLimit | None = None, *, name: str | None = None) -> None:
        if limit is not None:
            _checks.instance("limit", limit, RateLimit)
        if name is not None:
            _checks.instance("name", name, str)
            if not name:
                raise ValueError("name='' must be the name of a budget, or None")
        self._limit = limit
        self._name = name
        self._scope: str | None = None
        self._clock = time.monotonic
        self._file: state_file.StateFile | None = None
        self._first = told(limit.requests, limit.per) if limit else State()
        self._requests = self._first.requests
        self._is_taken = self._changed = False
        self._flushes = 0
        self._untold: list[float | Reply] = []  # departures and replies that the file lacks
        self._telling: asyncio.TimerHandle | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        self._held_since = 0.0
        self._held_at = -1  # the number of the file's newest write then
        self._alone_until = 0.0
        self._warned = False
        self._log = _log.LimitLog()

    def bind(self, scope: str) -> None:
        """Hear whose limit this is.

        Raises ``ValueError`` if there is another one already, and no ``name`` says that they are one.
        """
        if self._name is None and self._scope not in (None, scope):
            raise ValueError(
                "this MachinePacer serves another base URL or API key already: make one MachinePacer "
                "for each, or give it name= if the server counts them as one"
            )
        self._scope = scope

    async def reserve(self) -> float:
        """Reserve the next slot of the machine and return its time.

        Waits until the one before it is about to leave, and for a reply where no slot is to be had.
        """
        flushes = self._flushes
        while True:
            if not self._take():
                await asyncio.sleep(_HELD * random.uniform(0.5, 1.5))
                continue
            slot = None
            wait = self._early(self._clock()) if flushes == self._flushes else 0.0
            try:
                if wait <= 0:
                    slot = reckoning.reserve(self._state, self._clock())
                    wait = reckoning.patience(self._state)
                    self._changed = True
            finally:
                self._give()
            if slot is not None:
                return slot
            await self._reply(wait)

    def _early(self, now: float) -> float:
        """Seconds until a slot may be reserved.

        Many processes would book so far ahead that nobody can know yet when the requests arrive that
        leave before. So all of them together book one interval ahead, as one process does.
        """
        s = self._state
        if not s.requests or s.probing:
            return 0.0
        return max(s.next, s.until) - now - max(slots.interval(s), _AHEAD)

    def sent(self, at: float) -> None:
        """Hear that a request left."""
        self._untold.append(at)
        self._tell()

    def report(self, reply: Reply) -> None:
        """Hear how a request ended; the other processes hear of it at once."""
        self._untold.append(reply)
        self._tell()
        self._wake_all()

    async def flush(self) -> None:
        """Tell the file what it has yet to hear; that takes a second at most. It stays for others."""
        self._flushes += 1
        self._wake_all()
        until = self._clock() + _STUCK
        while self._untold and self._clock() < until:
            self._tell()
            if self._untold:
                await asyncio.sleep(_HELD)
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if self._file is not None:
            self._file.close()

    @property
    def paused_until(self) -> float:
        """When the pause ends, for all processes."""
        if self._file is None or self._clock() < self._alone_until:
            return self._state.until
        try:
            return self._file.paused_until
        except OSError as error:
            self._go_alone(error)
            return self._state.until

    def pace(self) -> Pace:
        """The state of the machine, as this process saw it last; no rate while no limit is known."""
        s = self._state
        if not s.requests:
            return Pace(rate=None, limit=None)
        limit = self._limit or RateLimit(s.requests, s.per)
        return Pace(rate=1 / slots.interval(s), limit=limit)

    @property
    def _state(self) -> State:
        return self._first if self._file is None else self._file.state

    def _take(self) -> bool:
        """Begin a change of the state; ``False``: another process is about to make one."""
        if self._clock() >= self._alone_until:
            try:
                if not self._opened().take() and not self._take_from_stuck():
                    return False
                self._is_taken, self._held_at = True, -1
            except OSError as error:
                self._go_alone(error)
        self._changed = bool(self._untold)
        self._agree()
        for ended in self._untold:
            if isinstance(ended, Reply):
                reckoning.report(self._state, ended, random.random())
            else:
                reckoning.left(self._state, ended)
        self._untold.clear()
        return True

    def _give(self) -> None:
        """End a change."""
        if self._limit is None and self._state.requests:
            s = self._state
            self._log.tell(RateLimit(s.before or s.requests, s.per), RateLimit(s.requests, s.per))
        if self._is_taken and self._file is not None:
            self._is_taken = False
            try:
                self._file.give(changed=self._changed)
            except OSError as error:
                self._go_alone(error)

    def _opened(self) -> state_file.StateFile:
        if self._file is None:
            if self._name is None and self._scope is None:
                raise RuntimeError(
                    "this MachinePacer has no budget yet: HilosSession(pace=...) binds it"
                )
            budget = f"key {self._scope}" if self._name is None else f"name {self._name}"
            self._file = state_file.StateFile(state_file.path_of(budget))
            self._file.state = self._first
        return self._file

    def _take_from_stuck(self) -> bool:
        """Take the file from a process that has been stopped while it held it."""
        file = self._opened()
        now, newest = self._clock(), file.newest()
        if newest != self._held_at:
            self._held_since, self._held_at = now, newest
        if now - self._held_since < _STUCK:
            return False
        file.replace()
        return file.take()

    def _agree(self) -> None:
        """Keep to the limit that was told, or to none that somebody else was told."""
        s = self._state
        if self._limit is None:
            s.learns = True  # whatever was told goes on as what is known
        elif s.learns or s.requests != self._requests or s.per != self._limit.per:
            s.learns, s.sure, s.before = False, True, 0.0
            s.requests, s.per = self._requests, self._limit.per

    def _tell(self) -> None:
        if self._take():
            self._give()
        elif self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(_HELD, self._tell_late)

    def _tell_late(self) -> None:
        self._telling = None
        self._tell()

    def _go_alone(self, error: OSError) -> None:
        self._is_taken = False
        self._alone_until = self._clock() + _ALONE
        if self._file is not None:
            self._file.close()
        if not self._warned:
            self._warned = True
            _log.alone(error)

    def _wake_all(self) -> None:
        for future in self._waiting:
            _wake(future)

    async def _reply(self, patience: float) -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        timer = loop.call_later(patience, _wake, future)
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)
            timer.cancel()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
