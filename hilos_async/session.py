"""HilosSession: what a user holds. Its operations and their docstrings; the work is done elsewhere."""

from __future__ import annotations

import functools
import math
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, NoReturn, Self, TypeVar, Unpack

import aiohttp
import anyio

from hilos_async import _checks
from hilos_async._api.endpoints import EXECUTION
from hilos_async._api.objects import FlowExecution
from hilos_async._many.batch import ExecutionBatch, Gathering, Progress
from hilos_async._many.fanout import FanOut
from hilos_async._many.lookups import Freshness, Lookups
from hilos_async._many.source import Source
from hilos_async._many.stream import Failed, Fetched, Stream, StreamSink
from hilos_async._many.watch import Change, Ending, Watch
from hilos_async._pace.pacer import Pacer, RateLimit
from hilos_async._wire.call import SINGLE, Caller
from hilos_async._wire.client import Client
from hilos_async._wire.options import Bounds, Options
from hilos_async._wire.retry import RetryPolicy
from hilos_async.errors import AuthenticationError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from uuid import UUID

    from hilos_async._many.fanout import Sink
    from hilos_async._many.source import Ids
    from hilos_async._many.stream import Feed
    from hilos_async._wire.gate import Stats

T = TypeVar("T")


class HilosSession:
    """A connection to Hilos: look up one flow execution, or very many at once.

    Whom to ask, and with which key:

    - ``token``: the API key; by default ``HILOS_API_KEY`` or ``HILOS_API_TOKEN``. A pasted ``Token ``
      prefix and white space around it do not matter. ``auth_header``: the header that carries it.
    - ``account``: an ActiveCampaign account's name, by default ``HILOS_ACCOUNT``. ``base_url``: a full
      prefix, by default ``HILOS_BASE_URL``, wins over it; without either the native host is asked.
    - ``allow_http``: permit plain http to hosts other than this machine.

    How long, how often, how fast:

    - ``timeout``: seconds for one lookup with its waiting and retries, ``None`` for no bound; in a
      batch, waiting for the pace does not count. ``attempt_timeout``: seconds for one request.
    - ``retry``: a ``RetryPolicy``.
    - ``pace``: a ``RateLimit``, a ``Pacer``, ``"learn"`` to find the limit out, ``"machine"`` to share
      the default's with all processes of this machine (``MachinePacer``), or ``"off"``; by
      default the host's own limit (ActiveCampaign documents 5 requests per second for an account)
      and ``"learn"`` where none is documented.
    - ``max_concurrency``: requests under way at once. ``max_response_bytes``: the largest reply that
      is read, after decompression.

    Through which connections:

    - ``session``: an ``aiohttp.ClientSession`` to use and leave open; otherwise one is made on first
      use, with ``trust_env`` and ``trace_configs``. ``proxy`` and ``ssl``: as in aiohttp.

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
        pace: RateLimit | Pacer | Literal["learn", "machine", "off"] | None = None,
        max_concurrency: int = 50,
        max_response_bytes: int = 1_048_576,
        session: aiohttp.ClientSession | None = None,
        proxy: str | None = None,
        ssl: ssl.SSLContext | bool | None = None,
        trust_env: bool = False,
        trace_configs: Sequence[aiohttp.TraceConfig] = (),
    ) -> None:
        bounds = Bounds(
            timeout=timeout,
            attempt_timeout=attempt_timeout,
            retry=retry,
            max_concurrency=max_concurrency,
            max_response_bytes=max_response_bytes,
        )
        self._client = Client(
            token=token,
            account=account,
            base_url=base_url,
            auth_header=auth_header,
            allow_http=allow_http,
            bounds=bounds,
            pace=pace,
            session=session,
            proxy=proxy,
            ssl=ssl,
            trust_env=trust_env,
            trace_configs=trace_configs,
        )
        self._executions = Lookups(self._client, EXECUTION, attrgetter("is_terminal"))
        self._is_derived = False

    async def __aenter__(self) -> Self:
        if self._client.transport.closed:
            raise self._client.transport.closed_error()
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
        transport = self._client.transport
        state = "closed" if transport.closed else "open"
        return f"<HilosSession {transport.base_url} {state}>"

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
        if not self._is_derived:
            await self._client.aclose()

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
        derived._client = self._client.bounded_by(**options)
        derived._executions = self._executions.on(derived._client)
        return derived

    @property
    def stats(self) -> Stats:
        """What the session has done so far, with all that were derived from it."""
        return self._client.gate.stats()

    async def get_execution(
        self,
        id: UUID | str,
        *,
        timeout: float | None = None,
        max_age: float = 0.0,
        max_age_ended: float | None = None,
    ) -> FlowExecution:
        """Fetch one flow execution as it is now.

        ``timeout`` replaces the session's, in seconds. ``max_age`` accepts an answer that this session
        got at most so many seconds ago, ``max_age_ended`` one of another age if the execution has
        ended (``math.inf``: any); the newest 2,048 answers are kept once somebody accepts one. Lookups
        of one id at the same time share one request.

        Raises the errors of ``hilos_async.errors``: ``InvalidIdError`` before any request,
        ``NotFoundError`` for an id the account does not have, ``DeadlineExceededError`` when the time
        ran out, the last ``TransportError`` or ``ServerError`` when the attempts did.
        """
        execution_id = _checks.parse_id(id)
        bound = self._client.bounds.timeout
        if timeout is not None:
            bound = _checks.positive("timeout", timeout)
        fresh = Freshness.of(max_age, max_age_ended)
        return await self._executions.asker(SINGLE, bound, fresh)(execution_id)

    async def gather_executions(
        self,
        ids: Ids,
        *,
        max_concurrency: int | None = None,
        timeout: float | None = None,
        max_age: float = 0.0,
        max_age_ended: float | None = None,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> ExecutionBatch:
        """Fetch many flow executions at once; each id ends as an execution or as an error.

        ``ids`` may be any iterable or async iterable; duplicates, in any spelling, are asked once.
        ``max_concurrency`` bounds this batch's requests under way (the session's bound stays).
        After ``timeout`` seconds the batch returns with what it has, and ``DeadlineExceededError`` for
        the rest. ``max_age`` and ``max_age_ended`` are those of ``get_execution``. ``on_progress`` is
        called with a ``Progress`` after each id; what it raises ends the batch and comes out.

        Raises ``AuthenticationError`` as soon as the key is refused, with what had been fetched on its
        ``batch``; ``TypeError`` for ids that are no iterable of ids.
        """
        _checks.callback("on_progress", on_progress)
        workers = self._workers(max_concurrency)
        source = Source(ids)
        gathering = Gathering[FlowExecution](source.count, self._client.clock, on_progress)
        fresh = Freshness.of(max_age, max_age_ended)
        fan_out = self._fan_out(self._executions, source, gathering, timeout, fresh)
        try:
            with self._client.told_batch("gather_executions", fan_out):
                await fan_out.run(workers)
        except AuthenticationError as error:
            error.batch = ExecutionBatch(*gathering.outcomes(is_whole=False))
            raise
        return ExecutionBatch(*gathering.outcomes(is_whole=True))

    def stream_executions(
        self, ids: Ids, *, max_concurrency: int | None = None, timeout: float | None = None
    ) -> Stream[Fetched | Failed]:
        """Fetch very many flow executions and give each as it completes: ``Fetched`` or ``Failed``.

        Use as ``async with hilos.stream_executions(ids) as lookups: async for lookup in lookups:``.
        Memory does not grow with the number of ids: they are read only as fast as they are asked, and
        no more than ``max_concurrency`` requests are ahead of the loop. So an id that is repeated is
        asked again. Leaving the block early cancels what is under way. After ``timeout`` seconds the
        rest are ``DeadlineExceededError``.

        Raises ``AuthenticationError`` out of the loop once the key is refused and all that had been
        fetched was given; ``TypeError`` at once for ids that are no iterable of ids.
        """
        workers = self._workers(max_concurrency)
        source = Source(ids)
        bound = _checks.seconds("timeout", timeout)

        async def run(feed: Feed[Fetched | Failed]) -> None:
            fan_out = self._fan_out(self._executions, source, StreamSink(feed), bound)
            with self._client.told_batch("stream_executions", fan_out):
                await fan_out.run(workers)

        return Stream(run, workers)

    def watch_executions(
        self,
        ids: Ids,
        *,
        until: Callable[[FlowExecution], bool] | None = None,
        max_concurrency: int | None = None,
    ) -> Stream[Change]:
        """Ask for executions again and again until each has ended, and give what changes.

        Use as ``async with hilos.watch_executions(ids) as changes: async for change in changes:``. The
        first ``Change`` of an id is its state now; the loop ends when all have ended: by default in a
        terminal state, otherwise when ``until(execution)`` is true. An id that is not found ends; any
        other failed lookup is given once and asked again. One that moves is asked again after about
        2 seconds, a quiet one ever less often, up to 2 minutes, all within the pace and spread over
        time.

        Raises ``AuthenticationError`` or ``SessionClosedError`` out of the loop.
        """
        watch = Watch(ids, self._client, self._executions, until)
        return Stream(watch.run, self._workers(max_concurrency))

    async def wait_for_executions(
        self,
        ids: Ids,
        *,
        until: Callable[[FlowExecution], bool] | None = None,
        timeout: float | None = None,
        on_change: Callable[[Change], object] | None = None,
    ) -> ExecutionBatch:
        """Wait until executions have ended and return them as they ended.

        It watches as ``watch_executions`` does and calls ``on_change`` with each ``Change``. After
        ``timeout`` seconds it returns; an id that has not ended by then is a
        ``DeadlineExceededError`` that tells how it was seen last.

        Raises ``AuthenticationError`` with what had ended on its ``batch``, ``SessionClosedError``, and
        what ``on_change`` raises.
        """
        _checks.callback("on_change", on_change)
        bound = _checks.seconds("timeout", timeout)
        watch = Watch(ids, self._client, self._executions, until)
        ending = Ending(watch, bound)
        try:
            with anyio.move_on_after(bound):
                async with Stream(watch.run, self._workers(None)) as changes:
                    async for change in changes:
                        ending.take(change)
                        if on_change is not None:
                            _checks.ignored("on_change", on_change(change))
        except AuthenticationError as error:
            error.batch = ending.batch()
            raise
        return ending.batch()

    def _workers(self, max_concurrency: int | None) -> int:
        if max_concurrency is None:
            return self._client.bounds.max_concurrency
        return _checks.whole("max_concurrency", max_concurrency)

    def _fan_out(
        self,
        lookups: Lookups[T],
        source: Source,
        sink: Sink[T],
        timeout: float | None,
        fresh: Freshness | None = None,
    ) -> FanOut[T]:
        client = self._client
        bound = _checks.seconds("timeout", timeout)
        deadline = math.inf if bound is None else client.clock() + bound
        caller = Caller(is_batch=True, deadline=deadline, timeout=timeout)
        return FanOut(
            source,
            lookups.asker(caller, client.bounds.timeout, fresh),
            sink,
            caller,
            clock=client.clock,
            path=lookups.path,
            stop=functools.partial(client.gate.stop, caller),
        )
