"""The way of one lookup: retry(pace -> one attempt -> interpret), asked once however many want it.

Knows how gate, transport, protocol and retry follow each other. Refuses to know what is inside any
of them, and who collects the results.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import logging
import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import msgspec

from hilos_async import _log
from hilos_async._api.replies import interpret
from hilos_async._pace.fields import read_quota
from hilos_async._wire.burst import Burst
from hilos_async._wire.call import Call
from hilos_async._wire.retry import is_refusal, is_transient, retry
from hilos_async.errors import (
    AttemptTimeoutError,
    AuthenticationError,
    DecodeError,
    HilosError,
    RateLimitError,
    SessionClosedError,
    StatusError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from hilos_async._api.objects import FlowExecution
    from hilos_async._pace.pacer import Quota, Verdict
    from hilos_async._wire.call import Caller
    from hilos_async._wire.gate import Gate
    from hilos_async._wire.options import Bounds, Freshness
    from hilos_async._wire.transport import Transport

_ANSWERS_KEPT: Final = 2_048  # executions; a few kilobytes each


class _Answers:
    """The newest executions and when they came, for those who accept a recent answer.

    Nothing is kept before somebody does: who always asks pays no memory for it.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[UUID, tuple[float, FlowExecution]] | None = None

    def find(self, execution_id: UUID, fresh: Freshness, now: float) -> FlowExecution | None:
        if self._kept is None:
            self._kept = OrderedDict()
        came, execution = self._kept.get(execution_id, (-math.inf, None))
        if execution is None:
            return None
        age = fresh.max_age_ended if execution.is_terminal else fresh.max_age
        return execution if now - came <= age else None

    def keep(self, execution_id: UUID, execution: FlowExecution, now: float) -> None:
        if self._kept is not None:
            self._kept[execution_id] = (now, execution)
            self._kept.move_to_end(execution_id)
            if len(self._kept) > _ANSWERS_KEPT:
                self._kept.popitem(last=False)


class Lookups:
    """Answers for ids, on one session's connections and pace."""

    def __init__(
        self, transport: Transport, gate: Gate, bounds: Bounds, *, clock: Callable[[], float]
    ) -> None:
        self.bounds = bounds
        self.clock = clock
        self._transport = transport
        self._gate = gate
        # Those under way. By the number of the id: the hash of a UUID is Python code.
        self._leading: dict[int, Call] = {}
        self._answers = _Answers()
        self._decoding: Burst[FlowExecution] = Burst()

    def bounded_by(self, bounds: Bounds) -> Lookups:
        """The same, under other bounds: connections, pace and lookups under way are shared."""
        derived = copy.copy(self)
        derived.bounds = bounds
        return derived

    async def one(
        self,
        execution_id: UUID,
        caller: Caller,
        timeout: float | None,
        fresh: Freshness | None = None,
    ) -> FlowExecution:
        """The execution with that id, from whoever asks for it right now or by asking."""
        self._transport.open()  # a closed session or another loop: before anything waits
        if fresh is not None:
            answer = self._answers.find(execution_id, fresh, self.clock())
            if answer is not None:
                return answer
        call = Call(execution_id, caller, self.clock(), timeout)
        while (leading := self._leading.get(execution_id.int)) is not None:
            asked = self.clock()
            outcome = await self._follow(leading, call)
            if caller.is_batch:  # waiting for another's reply is waiting for the pace
                call.deadline += self.clock() - asked
            if isinstance(outcome, HilosError):
                raise copy.copy(outcome) from outcome.__cause__
            if outcome is not None:
                return outcome
        return await self._lead(call)

    async def _follow(self, leading: Call, call: Call) -> FlowExecution | HilosError | None:
        """What another's lookup finds; ``None`` if it ended for a reason that is only its own."""
        future: asyncio.Future[FlowExecution | HilosError | None]
        future = asyncio.get_running_loop().create_future()
        leading.followers.append(future)
        if not call.caller.is_batch:
            self._gate.promote(leading)
        patience = call.wait_deadline - self.clock()
        try:
            async with asyncio.timeout(None if patience == math.inf else patience):
                return await future
        except TimeoutError:
            raise call.too_late() from None

    async def _lead(self, call: Call) -> FlowExecution:
        self._leading[call.id.int] = call
        outcome: FlowExecution | HilosError | None = None
        try:
            outcome = execution = await self._until_answered(call)
        except HilosError as error:
            error.execution_id = call.id
            error.attempts = call.attempts
            error.elapsed = self.clock() - call.started
            outcome = error if _is_answer(error) else None
            raise
        finally:
            del self._leading[call.id.int]
            for follower in call.followers:
                if not follower.done():
                    follower.set_result(outcome)
        self._answers.keep(call.id, execution, self.clock())
        return execution

    async def _until_answered(self, call: Call) -> FlowExecution:
        try:
            return await self._attempt(call)
        except HilosError as error:
            if not self.bounds.retry.again(error):
                raise
            failed = error
        attempts = self.bounds.retry.attempts
        return await retry(
            failed,
            functools.partial(self._attempt, call),
            exhausted=lambda: call.failures >= attempts,
            delay=lambda: call.delay,
            sleep=functools.partial(self._gate.back_off, call),
            again=self.bounds.retry.again,
        )

    async def _attempt(self, call: Call) -> FlowExecution:
        asked = self.clock()
        await self._gate.enter(call)
        if call.caller.is_batch:
            call.deadline += call.sent - asked
        bound = self.bounds.attempt_timeout
        left = min(call.deadline, call.caller.deadline) - call.sent
        verdict: Verdict | None = None
        retry_after: float | None = None
        wait: float | None = None
        quota: Quota | None = None
        came: int | HilosError | None = None
        body = b""
        try:
            status, headers, body = await self._transport.fetch(
                call.id, min(bound, left), self.bounds.max_response_bytes
            )
            quota = self._obeyed(read_quota(headers))
            if 200 <= status < 300:
                headers = {}  # of no use any more, and the server may have echoed the key in one
            read = functools.partial(
                interpret, status, headers, body, call.id, self._transport.without_key
            )
            execution = await self._decoding.run(read) if self._gate.in_flight > 1 else read()
            verdict, came = "accepted", status
        except HilosError as error:
            body, read = b"", None  # a traceback that shows variables must not show an echoed key
            call.last_error = came = error
            verdict = self._judge(call, error)
            if isinstance(error, StatusError) and error.retry_after is not None:
                retry_after = error.retry_after
                wait = retry_after if self.bounds.retry.again(error) else 0.0
            if isinstance(error, AttemptTimeoutError) and left <= bound:
                raise call.too_late() from error
            raise
        finally:
            self._gate.leave(call, verdict, retry_after, wait, quota)
            if _log.logger.isEnabledFor(logging.DEBUG):
                _log.request(call.id, call.attempts, self.clock() - call.sent, came)
        return execution

    def _obeyed(self, quota: Quota | None) -> Quota | None:
        """The quota without a reset that lies further off than a Retry-After may."""
        if quota is None or (quota.reset or 0.0) <= self.bounds.retry.max_retry_after:
            return quota
        return msgspec.structs.replace(quota, reset=None)

    def _judge(self, call: Call, error: HilosError) -> Verdict | None:
        """What the pacer hears of a failed attempt; sets how long the call backs off."""
        if isinstance(error, SessionClosedError):
            return None
        if is_refusal(error):
            call.delay = 0.0  # the pause is everybody's
            return "refused" if isinstance(error, RateLimitError) else "busy"
        if not is_transient(error):
            if isinstance(error, AuthenticationError) and call.caller.stopped is None:
                _log.key_refused(call.id, error)  # once for a batch: it is stopped by that
            return "accepted"
        call.failures += 1
        call.delay = self.bounds.retry.backoff(call.failures)
        alive = isinstance(error, StatusError) and error.status < 500
        return "accepted" if alive else "failed"


def _is_answer(error: HilosError) -> bool:
    """Whether the error is the API's answer, the same for everybody who asks."""
    if isinstance(error, StatusError):
        return not is_transient(error)
    return isinstance(error, DecodeError)
