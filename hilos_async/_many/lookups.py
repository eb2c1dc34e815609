"""Lookups by id: each is asked once however many want it, and recent answers are kept."""

from __future__ import annotations

import asyncio
import copy
import functools
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from hilos_async import _checks
from hilos_async._wire.call import Call
from hilos_async._wire.retry import is_transient
from hilos_async.errors import (
    DeadlineExceededError,
    DecodeError,
    HilosError,
    SessionClosedError,
    StatusError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self
    from uuid import UUID

    from hilos_async._api.endpoints import Endpoint
    from hilos_async._wire.call import Caller
    from hilos_async._wire.client import Client
    from hilos_async._wire.options import Bounds
    from hilos_async._wire.telemetry import Tally

T = TypeVar("T")

_ANSWERS_KEPT: Final = 2_048  # a few kilobytes each


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """How old, in seconds, an answer may be that saves a request; by another age if it has ended."""

    max_age: float
    max_age_ended: float

    @classmethod
    def of(cls, max_age: float, max_age_ended: float | None) -> Freshness | None:
        """The checked ages; ``None`` where every lookup is to ask."""
        if max_age == 0 and max_age_ended is None:
            return None
        ages = [max_age, max_age if max_age_ended is None else max_age_ended]
        for name, age in zip(("max_age", "max_age_ended"), ages, strict=True):
            if age and age != math.inf:
                _checks.positive(name, age)
        return cls(max_age=ages[0], max_age_ended=ages[1]) if any(ages) else None


class _Answers(Generic[T]):
    """The newest answers and when they came, for those who accept a recent one.

    Nothing is kept before somebody does: who always asks pays no memory for it.
    """

    def __init__(self, is_ended: Callable[[T], bool]) -> None:
        self._is_ended = is_ended
        self._kept: OrderedDict[UUID, tuple[float, T]] | None = None

    def find(self, id: UUID, fresh: Freshness, now: float) -> T | None:
        if self._kept is None:
            self._kept = OrderedDict()
        kept = self._kept.get(id)
        if kept is None:
            return None
        came, answer = kept
        age = fresh.max_age_ended if self._is_ended(answer) else fresh.max_age
        return answer if now - came <= age else None

    def keep(self, id: UUID, answer: T, now: float) -> None:
        if self._kept is not None:
            self._kept[id] = (now, answer)
            self._kept.move_to_end(id)
            if len(self._kept) > _ANSWERS_KEPT:
                self._kept.popitem(last=False)


class Lookups(Generic[T]):
    """Answers of one endpoint for ids, on one session's connections and pace.

    ``is_ended`` says of an answer that it will not change any more.
    """

    def __init__(
        self, client: Client, endpoint: Endpoint[T], is_ended: Callable[[T], bool]
    ) -> None:
        self._client = client
        self._bounds = client.bounds
        self.reader = client.reader(endpoint)
        self.path = endpoint.path
        # Those under way. By the number of the id: the hash of a UUID is Python code.
        self._leading: dict[int, Call[T]] = {}
        self._answers = _Answers(is_ended)

    def on(self, client: Client) -> Self:
        """The same for a derived session: what is under way and what is kept is shared."""
        derived = copy.copy(self)
        derived._client = client
        derived._bounds = client.bounds
        return derived

    def asker(
        self, caller: Caller, timeout: float | None, fresh: Freshness | None = None
    ) -> Callable[[UUID], Awaitable[T]]:
        """How a caller asks: told to OpenTelemetry where somebody listens, otherwise as it is."""
        telemetry = self._client.telemetry
        listened = telemetry is not None and telemetry.look_for_sdk()
        one = self._told if listened else self._one
        return functools.partial(one, caller, timeout, fresh)

    async def _told(
        self, caller: Caller, timeout: float | None, fresh: Freshness | None, id: UUID
    ) -> T:
        client = self._client
        assert client.telemetry is not None
        operation = self.reader.endpoint.operation
        about = {f"hilos.{operation.removeprefix('get_')}.id": str(id), "hilos.source": "kept"}
        with client.telemetry.lookup(client.counts, operation, about) as tally:
            return await self._one(caller, timeout, fresh, id, tally)

    async def _one(
        self,
        caller: Caller,
        timeout: float | None,
        fresh: Freshness | None,
        id: UUID,
        tally: Tally | None = None,
    ) -> T:
        """The answer for that id, from whoever asks for it right now or by asking."""
        client = self._client
        client.transport.open()  # a closed session or another loop: before anything waits
        started = client.clock()
        if fresh is not None:
            answer = self._answers.find(id, fresh, started)
            if answer is not None:
                return answer
        call = Call(self.reader, self.path(id), id, caller, self._bounds, started, timeout)
        call.tally = tally
        while (leading := self._leading.get(id.int)) is not None:
            outcome = await self._follow(leading, call)
            if isinstance(outcome, HilosError):
                raise outcome
            if outcome is not None:
                return outcome
        self._leading[id.int] = call
        found: T | HilosError | None = None
        try:
            found = answer = await client.dispatch.answer(call)
        except HilosError as error:
            found = error
            raise
        finally:
            del self._leading[id.int]
            if call.followers is not None:
                _tell(call.followers, found)
        self._answers.keep(id, answer, client.clock())
        return answer

    async def _follow(self, leading: Call[T], call: Call[T]) -> T | HilosError | None:
        """What another's lookup finds; ``None`` if it ended for a reason that is only its own."""
        client, asked = self._client, self._client.clock()
        future: asyncio.Future[T | HilosError | None]
        future = asyncio.get_running_loop().create_future()
        if leading.followers is None:
            leading.followers = []
        leading.followers.append(future)
        if call.tally is not None:
            call.tally.shared()
        if not call.caller.is_batch:
            client.gate.promote(leading)
        patience = call.wait_deadline - asked
        try:
            async with asyncio.timeout(None if patience == math.inf else patience):
                outcome = await future
        except TimeoutError:
            raise call.too_late() from None
        if call.caller.is_batch:  # waiting for another's reply is waiting for the pace
            call.deadline += client.clock() - asked
        if not isinstance(outcome, HilosError):
            return outcome
        if _is_answer(outcome) or _are_all_attempts(outcome, leading.bounds, call.bounds):
            return copy.copy(outcome)
        return None


def _tell(
    followers: list[asyncio.Future[T | HilosError | None]], outcome: T | HilosError | None
) -> None:
    for follower in followers:
        if not follower.done():
            follower.set_result(outcome)


def _is_answer(error: HilosError) -> bool:
    """Whether the error is the API's answer, the same for everybody who asks."""
    if isinstance(error, StatusError):
        return not is_transient(error)
    return isinstance(error, DecodeError)


def _are_all_attempts(error: HilosError, theirs: Bounds, mine: Bounds) -> bool:
    """Whether an error is what attempts under these bounds come to, so that nobody need try again."""
    if isinstance(error, (DeadlineExceededError, SessionClosedError)):
        return False
    return (theirs.retry, theirs.attempt_timeout, theirs.max_response_bytes) == (
        mine.retry,
        mine.attempt_timeout,
        mine.max_response_bytes,
    )
