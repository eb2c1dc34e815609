"""HilosSession: what a user holds. Its operations and their docstrings; the work is done elsewhere."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Literal, NoReturn, Self, Unpack

import aiohttp
import anyio

from hilos_async import _checks
from hilos_async._api.endpoints import (
    EXECUTION,
    EXECUTION_CONTACT,
    EXECUTION_CONTACTS,
    EXECUTIONS,
    RUN,
)
from hilos_async._api.objects import FlowExecution
from hilos_async._api.runs import run_body
from hilos_async._many.batch import ContactBatch, ExecutionBatch, Progress
from hilos_async._many.jobs import fan_out_over, gather, list_of
from hilos_async._many.lookups import Freshness, Lookups
from hilos_async._many.source import Source
from hilos_async._many.stream import Failed, Fetched, Stream, StreamSink
from hilos_async._many.watch import Change, Ending, Watch
from hilos_async._pace.pacer import Pacer, RateLimit
from hilos_async._wire import once
from hilos_async._wire.call import SINGLE
from hilos_async._wire.client import Client
from hilos_async._wire.options import Bounds, Options
from hilos_async._wire.raw import whole_reply
from hilos_async._wire.retry import RetryPolicy
from hilos_async.errors import AuthenticationError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType
    from uuid import UUID

    from hilos_async._api.contacts import ExecutionContact
    from hilos_async._api.lists import ExecutionBrief
    from hilos_async._api.runs import NewContact
    from hilos_async._many.pages import Listing
    from hilos_async._many.source import Ids
    from hilos_async._many.stream import Feed
    from hilos_async._wire.gate import Stats
    from hilos_async._wire.raw import Response


class HilosSession:
    """A connection to Hilos: look up one flow execution, or very many at once.

    Whom to ask, and with which key:

    - ``token``: the API key; by default ``HILOS_API_KEY`` or ``HILOS_API_TOKEN``. A pasted ``Token ``
      prefix and white space around it do not matter. ``auth_header``: the header that carries it.
    - ``account``: an ActiveCampaign account's name, by default ``HILOS_ACCOUNT``. ``base_url``: a full
      prefix, by default ``HILOS_BASE_URL``, wins over it; without either the native host is asked.
    - ``allow_http``: permit plain http to hosts other than this machine. ``deployment``:
      ``"activecampaign"`` or ``"native"``, where the base URL does not tell to which of the two it
      leads; only ``list_execution_contacts`` needs it, for its filters by flow.

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
        deployment: Literal["activecampaign", "native"] | None = None,
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
            deployment=deployment,
            bounds=bounds,
            pace=pace,
            session=session,
            proxy=proxy,
            ssl=ssl,
            trust_env=trust_env,
            trace_configs=trace_configs,
        )
        self._executions = Lookups(self._client, EXECUTION, attrgetter("is_terminal"))
        self._contacts = Lookups(self._client, EXECUTION_CONTACT, attrgetter("is_terminal"))
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
        derived._contacts = self._contacts.on(derived._client)
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
        fresh = Freshness.of(max_age, max_age_ended)
        return await self._executions.asker(SINGLE, self._bound(timeout), fresh)(execution_id)

    async def get_execution_response(
        self, id: UUID | str, *, timeout: float | None = None
    ) -> Response[FlowExecution]:
        """Fetch one flow execution with the reply as it came: status, headers and body beside ``value``.

        It is always asked for anew, and shares its request with nobody. Otherwise it is
        ``get_execution``, errors included.
        """
        execution_id = _checks.parse_id(id)
        reader = self._executions.reader
        path = EXECUTION.path(execution_id)
        return await whole_reply(self._client, reader, path, execution_id, self._bound(timeout))

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
        fresh = Freshness.of(max_age, max_age_ended)
        workers = self._workers(max_concurrency)
        return await gather(
            self._client,
            self._executions,
            ids,
            workers,
            timeout,
            on_progress,
            fresh,
            ExecutionBatch,
        )

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
            fan_out = fan_out_over(self._client, self._executions, source, StreamSink(feed), bound)
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

    def list_executions(
        self,
        *,
        flow: UUID | str | None = None,
        flow_version: UUID | str | None = None,
        search: str | None = None,
    ) -> Listing[ExecutionBrief]:
        """The account's executions, newest first, those of a flow or of one of its versions.

        Use as ``async for row in hilos.list_executions():``; ``Listing`` has the other ways. Nothing is
        asked before. ``search`` is text that the API looks for. Raises ``InvalidIdError`` for a filter
        that is no id.
        """
        filters = {"flow": flow, "flow_version": flow_version, "search": search}
        return list_of(self._client, EXECUTIONS, filters)

    def list_execution_contacts(
        self,
        *,
        execution: UUID | str | None = None,
        flow: UUID | str | None = None,
        flow_version: UUID | str | None = None,
        contact: UUID | str | None = None,
        is_active: bool | None = None,
        search: str | None = None,
        page_size: int = 40,
    ) -> Listing[ExecutionContact]:
        """How each contact fared, newest first: of one execution, flow, version or contact, or of all.

        Use as ``async for row in hilos.list_execution_contacts(execution=id):``; ``Listing`` has the
        other ways. Nothing is asked before. The API may give fewer than ``page_size`` rows on a page;
        large pages are known to time out.

        Raises ``InvalidIdError`` for a filter that is no id, ``ValueError`` for ``flow`` or
        ``flow_version`` where it is unknown which deployment the base URL leads to: each has another
        name for them, and ignores the other's.
        """
        filters = {
            "flow_execution": execution,
            "flow": flow,
            "flow_version": flow_version,
            "contact": contact,
            "is_active": is_active,
            "search": search,
            "page_size": page_size,
        }
        return list_of(self._client, EXECUTION_CONTACTS, filters)

    async def get_execution_contact(
        self, id: UUID | str, *, timeout: float | None = None
    ) -> ExecutionContact:
        """Fetch how one contact fared, by the id of its row in ``list_execution_contacts``.

        The native deployment answers with the whole execution and the steps of the flow.
        ActiveCampaign's contract has no such request: what its servers answer is not documented.
        ``timeout`` and errors are those of ``get_execution``.
        """
        contact_id = _checks.parse_id(id, EXECUTION_CONTACT.noun)
        return await self._contacts.asker(SINGLE, self._bound(timeout))(contact_id)

    async def gather_execution_contacts(
        self,
        ids: Ids,
        *,
        max_concurrency: int | None = None,
        timeout: float | None = None,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> ContactBatch:
        """Fetch how many contacts fared; each id ends as a contact or as an error.

        It is to ``get_execution_contact`` what ``gather_executions`` is to ``get_execution``. Where the
        rows of ``list_execution_contacts`` say enough, they cost far fewer requests.
        """
        workers = self._workers(max_concurrency)
        return await gather(
            self._client, self._contacts, ids, workers, timeout, on_progress, None, ContactBatch
        )

    async def run_flow(
        self,
        flow_id: UUID | str,
        contacts: Iterable[NewContact],
        *,
        has_priority: bool = False,
    ) -> ExecutionBrief:
        """Start a campaign: run a flow for these contacts, once, and return the execution made.

        The request is never sent twice: only where no byte of it can have left, it is tried again. An
        error that is raised plain means that nothing has started; a ``RateLimitError`` pauses the
        session, and asking again is the caller's to decide. A cancellation goes through, and leaves a
        warning in the log if sending had begun.

        Raises ``OutcomeUnknownError`` if the campaign may have started all the same: the error says
        how to find out. Raises ``TypeError`` or ``ValueError`` before any request if ``contacts`` are
        no ``NewContact`` objects, are none at all, or have a phone in common.
        """
        checked = _checks.parse_id(flow_id, RUN.noun)
        return await once.run(self._client, checked, run_body(contacts, has_priority=has_priority))

    def _bound(self, timeout: float | None) -> float | None:
        if timeout is None:
            return self._client.bounds.timeout
        return _checks.positive("timeout", timeout)

    def _workers(self, max_concurrency: int | None) -> int:
        if max_concurrency is None:
            return self._client.bounds.max_concurrency
        return _checks.whole("max_concurrency", max_concurrency)
