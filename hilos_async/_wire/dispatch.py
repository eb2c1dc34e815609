"""One request, tried until it is answered: retry( pace -> one attempt -> read ), for every endpoint."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, TypeVar

import msgspec

from hilos_async import _log
from hilos_async._api.replies import refuse
from hilos_async._pace.fields import read_quota
from hilos_async._wire.burst import Burst
from hilos_async._wire.retry import is_bare_503, is_refusal, is_transient, retry
from hilos_async._wire.silence import FREE
from hilos_async.errors import (
    AttemptTimeoutError,
    AuthenticationError,
    HilosError,
    PermissionDeniedError,
    RateLimitError,
    SessionClosedError,
    StatusError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hilos_async._pace.pacer import Quota, Verdict
    from hilos_async._wire.call import Call
    from hilos_async._wire.gate import Gate
    from hilos_async._wire.options import Bounds
    from hilos_async._wire.transport import Transport

T = TypeVar("T")


class Dispatch:
    """Sends the requests of a session and of all that were derived from it."""

    def __init__(self, transport: Transport, gate: Gate, *, clock: Callable[[], float]) -> None:
        self._transport = transport
        self._gate = gate
        self._clock = clock
        self._burst = Burst()

    async def answer(self, call: Call[T]) -> T:
        """What the API answers, after as many attempts as the call's bounds allow.

        Raises the last error, which knows what was asked for, how often, and how long it took.
        """
        first: list[HilosError] = []
        try:
            try:
                return await self._once(call)
            except HilosError as error:
                if not _again(call, error):
                    raise
                first.append(error)
            return await retry(
                first,
                functools.partial(self._once, call),
                exhausted=lambda: call.failures >= call.bounds.retry.attempts,
                delay=lambda: call.delay,
                sleep=functools.partial(self._gate.back_off, call),
                again=functools.partial(_again, call),
            )
        except HilosError as error:
            error.execution_id = call.id
            error.attempts, error.uncounted = call.attempts, call.uncounted
            error.elapsed = self._clock() - call.started
            call.last_error = None  # no cycle: the error's traceback leads to the call
            raise

    def _once(self, call: Call[T]) -> Awaitable[T]:
        return self._attempt(call) if call.tally is None else self._told_attempt(call)

    async def _told_attempt(self, call: Call[T]) -> T:
        """One attempt that telemetry hears of."""
        tally, before, asked = call.tally, call.attempts, self._clock()
        assert tally is not None
        if before:
            tally.again(before, call.delay, call.last_error)
        refused = False
        try:
            return await self._attempt(call)
        except HilosError as error:
            refused = call.attempts > before and is_refusal(error)
            raise
        finally:
            was_sent = call.attempts > before
            waited = (call.sent if was_sent else self._clock()) - asked
            tally.attempted(call.attempts, was_sent, refused=refused, waited=waited)

    async def _attempt(self, call: Call[T]) -> T:
        asked = self._clock()
        await self._gate.enter(call)
        if call.caller.is_batch:
            call.deadline += call.sent - asked
        bound = call.bounds.attempt_timeout
        left = min(call.deadline, call.caller.deadline) - call.sent
        verdict: Verdict | None = None
        quota: Quota | None = None
        failed: HilosError | None = None
        status, body = 0, b""
        try:
            status, headers, body = await self._transport.fetch(call, min(bound, left))
            quota = read_quota(headers)
            if status >= 300 or status < 200:
                asked_for = f"{call.method} {call.path}"
                refuse(status, headers, body, asked_for, call.reader.endpoint.noun)
            if call.sending is not None and call.sending.keeps_reply:
                call.sending.reply = (status, headers, body)
            headers = {}  # of no use any more, and the server may have echoed the key in one
            if self._gate.in_flight > 1:
                read = functools.partial(call.reader.read, status, body, call.path, call.id)
                answer = await self._burst.run(read)
            else:
                answer = call.reader.read(status, body, call.path, call.id)
            verdict = "accepted"
        except HilosError as error:
            body, read = b"", None  # a traceback that shows variables must not show an echoed key
            call.last_error = failed = error
            was_cut = left <= bound and isinstance(error, AttemptTimeoutError)
            # What was cut short by a deadline of the caller's own says nothing about the server.
            verdict = None if was_cut else self._judge(call, error)
            if was_cut:
                raise call.too_late() from error
            raise
        finally:
            self._leave(call, verdict, failed, quota)
            if _log.logger.isEnabledFor(logging.DEBUG):
                seconds = self._clock() - call.sent
                _log.request(call.path, call.id, call.attempts, seconds, failed or status or None)
            failed = None  # no cycle: its traceback leads here
        return answer

    def _leave(
        self,
        call: Call[T],
        verdict: Verdict | None,
        failed: HilosError | None,
        quota: Quota | None,
    ) -> None:
        if quota is not None:
            quota = _obeyed(quota, call.bounds)
        retry_after: float | None = None
        wait: float | None = None
        if isinstance(failed, StatusError) and failed.retry_after is not None:
            retry_after = failed.retry_after
            wait = retry_after if call.bounds.retry.again(failed) else 0.0
        self._gate.leave(call, verdict, retry_after, wait, quota)

    def _judge(self, call: Call[T], error: HilosError) -> Verdict | None:
        """What the pacer hears of a failed attempt; sets how long the call backs off."""
        if isinstance(error, SessionClosedError):
            return None
        if call.is_stale and not call.repeated:
            # Nobody's failure: the server had closed the connection while nobody used it.
            call.repeated, call.delay = True, 0.0
            call.uncounted += 1
            return None
        if isinstance(error, StatusError):
            # It got through. In a pause that follows, connections may be closed again.
            call.repeated = False
        if is_refusal(error):
            call.delay = 0.0  # the pause is everybody's
            call.uncounted += 1
            return "refused" if isinstance(error, RateLimitError) else "busy"
        asks_to_wait = self._gate.silence.asks_to_wait
        if is_bare_503(error) and asks_to_wait(call.sent, self._clock()) and call.uncounted < FREE:
            call.delay = 0.0
            call.uncounted += 1
            return "refused"
        if not is_transient(error):
            if isinstance(error, AuthenticationError) and call.caller.stopped is None:
                _log.key_refused(call.path, call.id, error)  # once for a batch: that stops it
            elif isinstance(error, PermissionDeniedError) and self._gate.silence.is_sudden():
                _log.forbidden(call.path, call.id)
            return "accepted"
        call.failures += 1
        call.delay = call.bounds.retry.backoff(call.failures)
        alive = isinstance(error, StatusError) and error.status < 500
        return "accepted" if alive else "failed"


def _obeyed(quota: Quota, bounds: Bounds) -> Quota:
    """The quota without a reset that lies further off than a Retry-After may."""
    if (quota.reset or 0.0) <= bounds.retry.max_retry_after:
        return quota
    return msgspec.structs.replace(quota, reset=None)


def _again(call: Call[T], error: BaseException) -> bool:
    """Whether to ask again; a run only where no byte of it can have left."""
    if call.sending is not None and not call.sending.is_repeatable:
        return False
    return call.bounds.retry.again(error)
