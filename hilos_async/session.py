"""HilosSession: what a user holds. It wires protocol, retry, pace and batch together.

Knows the way of one lookup: retry(pace -> one attempt -> interpret). Refuses to know how any of the
four works inside.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NoReturn, Self, TypedDict, Unpack

import aiohttp
import msgspec

from hilos_async import _config
from hilos_async._batch import ExecutionBatch, Gathering, Progress
from hilos_async._gate import Call, Caller, Gate
from hilos_async._learning import LearningPacer
from hilos_async._pacing import KnownPacer, Pacer, Quota, RateLimit, Verdict
from hilos_async._protocol import interpret, read_quota
from hilos_async._retry import RetryPolicy, is_refusal, is_transient, retry
from hilos_async._transport import Transport
from hilos_async._version import __version__
from hilos_async.errors import (
    AttemptTimeoutError,
    HilosError,
    SessionClosedError,
    StatusError,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterable, Callable, Iterable, Sequence
    from types import TracebackType
    from uuid import UUID

    from yarl import URL

    from hilos_async.models import FlowExecution

# ActiveCampaign documents 5 requests per second for an account, all its integrations together.
_ACTIVECAMPAIGN_LIMIT: Final = RateLimit(5)
_SINGLE: Final = Caller(is_batch=False)


class Options(TypedDict, total=False):
    """What ``with_options`` can change; the meaning is that of ``HilosSession``'s arguments."""

    timeout: float | None
    attempt_timeout: float
    retry: RetryPolicy
    max_concurrency: int
    max_response_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    """The checked options of a session."""

    timeout: float | None
    attempt_timeout: float
    retry: RetryPolicy
    max_concurrency: int
    max_response_bytes: int

    def __post_init__(self) -> None:
        _config.seconds("timeout", self.timeout)
        _config.positive("attempt_timeout", self.attempt_timeout)
        _config.instance("retry", self.retry, RetryPolicy)
        _config.whole("max_concurrency", self.max_concurrency)
        _config.whole("max_response_bytes", self.max_response_bytes)


class Stats(msgspec.Struct, frozen=True, kw_only=True):
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


class HilosSession:
    """A connection to Hilos: look up one flow execution, or very many at once.

    ``token``: the API key; by default ``HILOS_API_KEY`` or ``HILOS_API_TOKEN``. A pasted ``Token ``
    prefix and white space around it do not matter.
    ``account``: an ActiveCampaign account's name, by default ``HILOS_ACCOUNT``; ``base_url``: a full
    prefix, by default ``HILOS_BASE_URL``, wins over it; without either the native host is asked.
    ``auth_header``: the header that carries the key. ``allow_http``: permit plain http to hosts
    other than this machine.
    ``timeout``: seconds for one lookup with its waiting and retries, ``None`` for no bound; in a
    batch, waiting for the pace does not count. ``attempt_timeout``: seconds for one request.
    ``retry``: a ``RetryPolicy``. ``pace``: a ``RateLimit``, a ``Pacer``, ``"learn"`` to find the
    limit out, or ``"off"``; by default the host's own limit (ActiveCampaign: 5 requests per second)
    and ``"learn"`` where none is documented.
    ``max_concurrency``: requests under way at once. ``max_response_bytes``: the largest reply that
    is read, after decompression.
    ``session``: an ``aiohttp.ClientSession`` to use and leave open; otherwise one is made on first
    use with ``trust_env`` and ``trace_configs``. ``proxy`` and ``ssl``: as in aiohttp.

    Nothing is sent before the first lookup. Raises ``ValueError`` or ``TypeError`` for an argument
    that cannot work.
    """

    def __init__(
        self,
        token: str | None = None,
        *,
        account: str | None = None,
        base_url: str | None = None,
        auth_header: str = "Authorization",
        allow_http: bool = False,
        timeout: float | None = 60.0,
        attempt_timeout: float = 15.0,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        pace: RateLimit | Pacer | Literal["learn", "off"] | None = None,
        max_concurrency: int = 50,
        max_response_bytes: int = 1_048_576,
        session: aiohttp.ClientSession | None = None,
        proxy: str | None = None,
        ssl: ssl.SSLContext | bool | None = None,
        trust_env: bool = False,
        trace_configs: Sequence[aiohttp.TraceConfig] = (),
    ) -> None:
        key = _config.api_key(token)
        url = _config.resolve_base_url(account, base_url, allow_http)
        if session is not None and (trust_env or trace_configs):
            raise ValueError(
                "trust_env and trace_configs belong to an aiohttp session: set them on the one given"
            )
        self._options = _Options(
            timeout=timeout,
            attempt_timeout=attempt_timeout,
            retry=retry,
            max_concurrency=max_concurrency,
            max_response_bytes=max_response_bytes,
        )
        self._clock = time.monotonic
        pacer = _pacer_for(pace, url)
        pacer.bind(_config.scope(url, key))
        self._gate = Gate(pacer, _connections(max_concurrency, session), clock=self._clock)
        self._transport = Transport(
            url,
            key,
            {
                **_config.auth_headers(key, auth_header),
                "Accept": "application/json",
                "User-Agent": f"hilos_async/{__version__} {aiohttp.http.SERVER_SOFTWARE}",
            },
            session=session,
            proxy=proxy,
            ssl=True if ssl is None else ssl,
            trust_env=trust_env,
            trace_configs=trace_configs,
        )
        self._is_derived = False

    async def __aenter__(self) -> Self:
        if self._transport.closed:
            raise self._transport.closed_error()
        if self._is_derived:
            raise RuntimeError(
                "a session from with_options() lives as long as the one it came from: "
                "use that one in async with, and this one inside it"
            )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        state = "closed" if self._transport.closed else "open"
        return f"<HilosSession {self._transport.base_url} {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a HilosSession holds a key and open connections and is neither pickled nor copied: "
            "make one in each process, with_options() for a variant"
        )

    async def aclose(self) -> None:
        """Close the session: whatever still waits on it fails with ``SessionClosedError``.

        May be called again. An aiohttp session that was given stays open, and so does everything
        if this session came from ``with_options``: its parent closes it.
        """
        if self._is_derived:
            return
        self._gate.close(self._transport.closed_error)
        await self._transport.aclose()

    def with_options(self, **options: Unpack[Options]) -> HilosSession:
        """A session with other options on the same connections, the same pace and the same key.

        It lives as long as this one, is not entered and needs no closing.
        ``timeout``, ``attempt_timeout``, ``retry``, ``max_concurrency`` (of a batch) and
        ``max_response_bytes`` can be given. Raises ``TypeError`` for any other name.
        """
        unknown = options.keys() - Options.__annotations__.keys()
        if unknown:
            raise TypeError(
                f"with_options() takes {', '.join(Options.__annotations__)}, not "
                f"{', '.join(sorted(unknown))}: what concerns the connection needs a HilosSession"
            )
        derived = object.__new__(type(self))
        derived.__dict__.update(self.__dict__)
        derived._is_derived = True
        derived._options = dataclasses.replace(self._options, **options)
        return derived

    @property
    def stats(self) -> Stats:
        """What the session has done so far, with all that were derived from it."""
        gate = self._gate
        pace = gate.pacer.pace()
        return Stats(
            requests=gate.requests,
            retries=gate.retries,
            refusals=gate.refusals,
            in_flight=gate.in_flight,
            waiting=gate.waiting,
            rate=pace.rate,
            limit=pace.limit,
            paused_for=max(0.0, gate.paused_until - self._clock()),
        )

    async def get_execution(self, id: UUID | str, *, timeout: float | None = None) -> FlowExecution:
        """Fetch one flow execution as it is now.

        ``timeout`` replaces the session's, in seconds. Raises the errors of ``hilos_async.errors``:
        ``InvalidIdError`` before any request, ``NotFoundError`` for an id the account does not have,
        ``DeadlineExceededError`` when the time ran out, the last ``TransportError`` or ``ServerError``
        when the attempts did.
        """
        execution_id = _config.parse_id(id)
        bound = self._options.timeout if timeout is None else _config.positive("timeout", timeout)
        return await self._lookup(execution_id, _SINGLE, bound)

    async def gather_executions(
        self,
        ids: Iterable[UUID | str] | AsyncIterable[UUID | str],
        *,
        max_concurrency: int | None = None,
        timeout: float | None = None,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> ExecutionBatch:
        """Fetch many flow executions at once; each id ends as an execution or as an error.

        ``ids`` may be any iterable or async iterable; duplicates, in any spelling, are asked once.
        ``max_concurrency`` bounds this batch's requests under way (the session's bound stays).
        After ``timeout`` seconds the batch returns with what it has, and ``DeadlineExceededError`` for
        the rest. ``on_progress`` is called with a ``Progress`` after each id; what it raises ends the
        batch and comes out.

        Raises ``AuthenticationError`` as soon as the key is refused, with what had been fetched on its
        ``batch``; ``TypeError`` for ids that are no iterable of ids.
        """
        workers = self._options.max_concurrency
        if max_concurrency is not None:
            workers = _config.whole("max_concurrency", max_concurrency)
        bound = math.inf if timeout is None else _config.positive("timeout", timeout)
        caller = Caller(is_batch=True, deadline=self._clock() + bound, timeout=timeout)
        gathering = Gathering(
            ids,
            functools.partial(self._lookup, caller=caller, timeout=self._options.timeout),
            deadline=caller.deadline,
            clock=self._clock,
            too_late=caller.too_late,
            stop=functools.partial(self._gate.stop, caller),
            on_progress=on_progress,
        )
        return await gathering.run(workers)

    async def _lookup(
        self, execution_id: UUID, caller: Caller, timeout: float | None
    ) -> FlowExecution:
        self._transport.open()  # a closed session or another loop: before anything waits
        call = Call(execution_id, caller, self._clock(), timeout)
        try:
            try:
                return await self._attempt(call)
            except HilosError as error:
                if not is_transient(error):
                    raise
                failed = error
            attempts = self._options.retry.attempts
            return await retry(
                failed,
                functools.partial(self._attempt, call),
                exhausted=lambda: call.failures >= attempts,
                delay=lambda: call.delay,
                sleep=functools.partial(self._gate.back_off, call),
            )
        except HilosError as error:
            error.execution_id = execution_id
            error.attempts = call.attempts
            error.elapsed = self._clock() - call.started
            raise

    async def _attempt(self, call: Call) -> FlowExecution:
        asked = self._clock()
        await self._gate.enter(call)
        if call.caller.is_batch:
            call.deadline += call.sent - asked
        bound = self._options.attempt_timeout
        left = min(call.deadline, call.caller.deadline) - call.sent
        verdict: Verdict | None = None
        wait: float | None = None
        quota: Quota | None = None
        try:
            status, headers, body = await self._transport.fetch(
                call.id, min(bound, left), self._options.max_response_bytes
            )
            quota = read_quota(headers)
            execution = interpret(status, headers, body, call.id)
            verdict = "accepted"
        except HilosError as error:
            call.last_error = error
            verdict, wait = self._judge(call, error)
            if isinstance(error, AttemptTimeoutError) and left <= bound:
                raise call.too_late() from error
            raise
        finally:
            self._gate.leave(call, verdict, wait, quota)
        return execution

    def _judge(self, call: Call, error: HilosError) -> tuple[Verdict | None, float | None]:
        """What the pacer hears of a failed attempt; sets how long the call backs off."""
        policy = self._options.retry
        if isinstance(error, SessionClosedError):
            return None, None
        if isinstance(error, StatusError) and is_refusal(error):
            call.delay = 0.0  # the pause is everybody's
            wait = error.retry_after
            return (
                "refused" if error.status == 429 else "busy",
                None if wait is None else min(wait, policy.max_retry_after),
            )
        if not is_transient(error):
            return "accepted", None
        call.failures += 1
        call.delay = policy.backoff(call.failures)
        alive = isinstance(error, StatusError) and error.status < 500
        return "accepted" if alive else "failed", None


def _pacer_for(pace: RateLimit | Pacer | Literal["off", "learn"] | None, url: URL) -> Pacer:
    if pace is None:
        pace = _ACTIVECAMPAIGN_LIMIT if _config.is_activecampaign(url) else "learn"
    if pace == "learn":
        return LearningPacer()
    if pace == "off":
        return KnownPacer(None)
    if isinstance(pace, RateLimit):
        return KnownPacer(pace)
    missing = [
        name
        for name in ("bind", "reserve", "sent", "report", "pace")
        if not callable(getattr(pace, name, None))
    ]
    if missing or isinstance(pace, (str, type)):
        raise TypeError(
            f"pace={pace!r} is no pace: RateLimit(5), 'learn', 'off', or a Pacer "
            f"(it has no {', '.join(missing)})"
        )
    return pace


def _connections(max_concurrency: int, session: aiohttp.ClientSession | None) -> int:
    """How many requests may be under way: no more than a given session has connections for.

    Otherwise they would wait for a connection inside the attempt, and its clock would run.
    """
    connector = session.connector if session is not None else None
    limits = [max_concurrency]
    if connector is not None:
        limits += [limit for limit in (connector.limit, connector.limit_per_host) if limit]
    return min(limits)
