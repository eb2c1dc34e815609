"""Asking again until it is over: which execution to ask next, how soon, and what has changed.

What is due stands in a heap, so thousands of ids cost no task each.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from typing import TYPE_CHECKING, Final
from uuid import UUID

import anyio

from hilos_async import _checks
from hilos_async._api.endpoints import EXECUTION
from hilos_async._api.model import Model
from hilos_async._api.objects import FlowExecution
from hilos_async._many.batch import ExecutionBatch
from hilos_async._many.fanout import lean
from hilos_async._many.source import Source
from hilos_async._many.tasks import tasks
from hilos_async._wire.call import Caller
from hilos_async.errors import (
    AuthenticationError,
    DeadlineExceededError,
    HilosError,
    InvalidIdError,
    NotFoundError,
    SessionClosedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hilos_async._many.lookups import Lookups
    from hilos_async._many.source import Ids
    from hilos_async._many.stream import Feed
    from hilos_async._wire.client import Client

    Until = Callable[[FlowExecution], bool]

SOONEST: Final = 2.0  # seconds until an execution that moves is asked again
LATEST: Final = 120.0  # seconds until one that has long been quiet is
_SLOWER: Final = 1.5  # how much longer to wait each time nothing has changed
_SPREAD: Final = 0.25  # share by which a wait is drawn shorter or longer: no waves


class Change(Model, frozen=True, kw_only=True):
    """What a watch saw of one id: another state than before, or a lookup that failed.

    ``before`` is ``None`` the first time. ``after`` is the state now, ``None`` if the lookup failed;
    then ``error`` says how. After a failure, the next state is given even if it is the one before it.
    ``ended`` says that this id is not asked again.
    """

    id: UUID | str
    before: FlowExecution | None = None
    after: FlowExecution | None = None
    error: HilosError | None = None
    ended: bool = False

    @property
    def fields(self) -> dict[str, tuple[object, object]]:
        """What changed: each field's name with its value before and after."""
        if self.before is None or self.after is None:
            return {}
        pairs = {
            name: (getattr(self.before, name), getattr(self.after, name))
            for name in self.after.__struct_encode_fields__  # the API's own names
        }
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


class _Watched:
    """One id: when it was last seen how, and how long it waits between two questions."""

    __slots__ = ("failing", "last", "wait")

    def __init__(self) -> None:
        self.last: FlowExecution | None = None
        self.wait = SOONEST
        self.failing = False


class Watch:
    """Asks for each id until ``until`` says of its execution that it is enough, or it is not found.

    One that has just moved is asked again after 2 seconds, one that stays as it is each time half as
    long again later, up to 2 minutes; both as far as the pace has room. Waits are drawn a quarter
    shorter or longer, and first questions spread, so that they never come in waves.
    """

    def __init__(
        self, ids: Ids, client: Client, lookups: Lookups[FlowExecution], until: Until | None
    ) -> None:
        _checks.callback("until", until)
        self._source = Source(ids)
        self._client = client
        self._caller = Caller(is_batch=True)
        self._lookups = lookups
        self._until = until or _is_terminal
        self._clock = client.clock
        self._heap: list[tuple[float, int, UUID]] = []
        self._order = itertools.count()
        self._watched: dict[UUID | str, _Watched] = {}
        self._asking = 0
        self._news = (
            asyncio.Event()
        )  # something is due earlier, a question or the session has ended

    @property
    def ids(self) -> Iterable[UUID | str]:
        """All ids, in the order they were given, as far as they have been read."""
        return self._watched.keys()

    async def run(self, changes: Feed[Change]) -> None:
        """Deliver changes until every id has ended.

        Raises ``AuthenticationError`` when the key is refused and ``SessionClosedError`` when the
        session is closed, plain.
        """
        await self._read(changes)
        self._client.gate.closing.add(self._news.set)
        try:
            async with tasks() as start:
                while await self._wait_for_due():
                    await changes.room.acquire()
                    id = heapq.heappop(self._heap)[2]
                    self._asking += 1
                    start(self._ask, id, changes)
        finally:
            self._client.gate.closing.discard(self._news.set)

    async def _read(self, changes: Feed[Change]) -> None:
        for given in await self._source.all():
            try:
                key: UUID | str = _checks.parse_id(given)
            except InvalidIdError as error:
                key = str(error.execution_id)
                if key not in self._watched:
                    await changes.room.acquire()
                    changes.deliver(Change(id=key, error=lean(error), ended=True))
            self._watched.setdefault(key, _Watched())
        ids = [key for key in self._watched if not isinstance(key, str)]
        now = self._clock()
        for place, id in enumerate(ids):
            self._push(now + SOONEST * place / len(ids), id)

    def _push(self, due: float, execution_id: UUID) -> None:
        heapq.heappush(self._heap, (due, next(self._order), execution_id))
        self._news.set()

    async def _wait_for_due(self) -> bool:
        """Wait until an id is due; ``False`` when all have ended."""
        while self._heap or self._asking:
            self._client.transport.open()  # raises once the session is closed
            wait = self._heap[0][0] - self._clock() if self._heap else None
            if wait is not None and wait <= 0:
                return True
            self._news.clear()
            with anyio.move_on_after(wait):
                await self._news.wait()
        return False

    async def _ask(self, id: UUID, changes: Feed[Change]) -> None:
        watched = self._watched[id]
        ask = self._lookups.asker(self._caller, self._client.bounds.timeout)
        try:
            after = await ask(id)
        except (AuthenticationError, SessionClosedError) as error:
            self._client.gate.stop(self._caller, error)
            raise
        except HilosError as error:
            change = self._failed(id, watched, lean(error))
        else:
            change = self._seen(id, watched, after)
        self._asking -= 1
        if change is None or not change.ended:
            wait = watched.wait * random.uniform(1 - _SPREAD, 1 + _SPREAD)
            self._push(self._clock() + wait, id)
        self._news.set()
        if change is None:
            changes.room.release()
        else:
            changes.deliver(change)

    def _seen(self, id: UUID, watched: _Watched, after: FlowExecution) -> Change | None:
        before, watched.last = watched.last, after
        was_failing, watched.failing = watched.failing, False
        ended = _checks.truth("until", self._until(after))
        if after == before and not (ended or was_failing):
            watched.wait = min(LATEST, watched.wait * _SLOWER)
            return None
        watched.wait = SOONEST
        return Change(id=id, before=before, after=after, ended=ended)

    def _failed(self, id: UUID, watched: _Watched, error: HilosError) -> Change | None:
        ended = isinstance(error, NotFoundError)
        watched.wait = min(LATEST, watched.wait * _SLOWER)
        if watched.failing and not ended:
            return None  # it was reported; it is still so
        watched.failing = True
        return Change(id=id, before=watched.last, error=error, ended=ended)


def _is_terminal(execution: FlowExecution) -> bool:
    return execution.is_terminal


class Ending:
    """How each watched id ended, for those who wait for all of them."""

    def __init__(self, watch: Watch, timeout: float | None) -> None:
        self._watch = watch
        self._timeout = timeout
        self._last: dict[UUID | str, Change] = {}

    def take(self, change: Change) -> None:
        """Remember the newest change of an id; a passing failure hides no state that was seen."""
        before = self._last.get(change.id)
        if change.after is not None or change.ended or before is None:
            self._last[change.id] = change

    def batch(self) -> ExecutionBatch:
        """What has ended; the rest as errors that tell how they were seen last."""
        batch = ExecutionBatch({}, {})
        for key in self._watch.ids:
            change = self._last.get(key)
            if change is None or not change.ended:
                batch.errors[key] = self._unended(key, change)
            elif change.after is not None and not isinstance(key, str):
                batch.executions[key] = change.after
            elif change.error is not None:
                batch.errors[key] = change.error
        return batch

    def _unended(self, key: UUID | str, change: Change | None) -> DeadlineExceededError:
        seen = "never" if change is None else (change.after and change.after.status) or change.error
        error = DeadlineExceededError(
            f"{EXECUTION.name}/{key} had not ended when the wait was over; last seen: {seen}",
            timeout=self._timeout,
        )
        error.execution_id = key
        error.__cause__ = None if change is None else change.error
        return error
