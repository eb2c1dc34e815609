"""The fake server: takes orders, listens on loopback, judges each request, counts.

It joins the other rooms and holds all that changes while it runs. What an execution looks like,
when a limit refuses and what a fault does to a socket it leaves to them.
"""

import asyncio
import ipaddress
import json
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from aiohttp import web

from hilos_async.testing._account import Account
from hilos_async.testing._faults import Fault, FaultPicker
from hilos_async.testing._limits import FakeLimit, FakeLimiter
from hilos_async.testing._replies import (
    INVALID_TOKEN,
    NO_CREDENTIALS,
    NO_SUCH_PATH,
    Reply,
    as_json,
    throttled,
)
from hilos_async.testing._views import Question, Views, read_path, uuid_or_none
from hilos_async.testing._wire import close, response, stop_accepting, strike

if TYPE_CHECKING:
    from hilos_async.session import HilosSession

_PREFIX = "/api"
_ARRIVALS_KEPT = 100_000


class FakeHilos:
    """Runs a Hilos API on loopback while its `async with` block does.

    `token`: the only key it takes. `limit`: refuses what is above it; None refuses nothing.
    `faults`: what goes wrong; the first that hits a lookup wins. `latency`: (real) seconds before
    every answer. `lifetime`: executions go from PROCESSING to their end in at most so many seconds
    of `clock`, each at its own pace; None lets them stand still. `native`: the contract of
    api.hilos.io rather than ActiveCampaign's. `executions`: how many the list of them has, beside
    which any UUID is an execution; `page_size`: rows on a page where the request names none (at most
    100 are given). `seed`: another one gives other executions and hits.
    `clock`: seconds that never go back, for `limit`, `lifetime` and `arrivals`. `host`, `port`: an
    address of loopback (anything else is a ValueError) and a fixed port, or 0 for a free one.

    Orders may change at any time: `limit` and `latency` can be set, `faults` is a list to edit.

    The counts are those since it was made, or since `reset_counts()`:

    - `requests`: all that arrived, whatever became of them
    - `accepted`: those that the key and the limit let pass, with or without a fault
    - `refused`: those that the limit refused
    - `faulted`: those that a fault hit
    - `asked`: how often each id was asked for, refused or not
    - `arrivals`: time and id of the last 100,000 requests that named an id
    - `max_in_flight`: most requests being answered at once (`in_flight` says how many are now)
    - `connections`: TCP connections taken (`open_connections` says how many are now)
    """

    def __init__(
        self,
        token: str = "fake-hilos-key",
        *,
        limit: FakeLimit | None = None,
        faults: Iterable[Fault] = (),
        latency: float = 0.0,
        lifetime: float | None = None,
        native: bool = False,
        executions: int = 60,
        page_size: int = 40,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        if not token or token != token.strip():
            raise ValueError(
                "FakeHilos takes a token without spaces around it, and not an empty one"
            )
        if not (math.isfinite(latency) and latency >= 0):
            raise ValueError(f"FakeHilos(latency=...) takes seconds from 0, not {latency!r}")
        if lifetime is not None and not (math.isfinite(lifetime) and lifetime > 0):
            raise ValueError(f"FakeHilos(lifetime=...) takes positive seconds, not {lifetime!r}")
        self.latency = latency
        self.faults = list(faults)
        for fault in self.faults:
            _must_be(Fault, fault, "faults")
        self._token = token
        self._native = native
        self._revoked = False
        self._limiter: FakeLimiter | None = None
        self.limit = limit
        self._clock = clock
        self._started_at: float | None = None
        self._account = Account(seed, executions, lifetime=lifetime, native=native)
        self._views = Views(self._account, page_size=page_size, native=native)
        self._picker = FaultPicker(seed)
        self._host = _loopback(host)
        self._asked_port = port
        self._port: int | None = None
        self._listener: asyncio.Server | None = None
        self._web: web.Server | None = None
        self._closing: asyncio.Task[None] | None = None
        self._in_flight = 0
        self.reset_counts()

    # --- where it is and who may ask

    @property
    def base_url(self) -> str:
        """The prefix of all its URLs. It stays the same after the block, where nobody listens."""
        if self._port is None:
            raise RuntimeError(
                "FakeHilos has no address yet: use `async with FakeHilos() as fake:`"
            )
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}{_PREFIX}"

    @property
    def token(self) -> str:
        """The key it takes."""
        return self._token

    def session(self, **options: object) -> "HilosSession":
        """Make a `HilosSession` that asks this server; opening and closing it is the caller's.

        `options` are those of `HilosSession`; they win over this server's token and address.
        """
        from hilos_async.session import HilosSession

        given: dict[str, object] = {
            "token": self.token,
            "base_url": self.base_url,
            "deployment": "native" if self._native else "activecampaign",
            **options,
        }
        return HilosSession(**cast(dict[str, Any], given))

    def revoke(self) -> None:
        """Refuse the key from now on, as if it had been deleted."""
        self._revoked = True

    @property
    def limit(self) -> FakeLimit | None:
        """The limit in force. A new one goes on with what the old one has accepted."""
        return self._limiter.limit if self._limiter else None

    @limit.setter
    def limit(self, limit: FakeLimit | None) -> None:
        if limit is None:
            self._limiter = None
            return
        _must_be(FakeLimit, limit, "limit")
        if self._limiter is None:
            self._limiter = limit.start()
        else:
            self._limiter.change(limit)

    # --- the executions

    def document(self, id: UUID | str, *, at: float | None = None) -> dict[str, object]:
        """Give the execution that this id has now, or had or has `at` seconds after the start.

        A removed one is a LookupError.
        """
        elapsed = self._elapsed() if at is None else at
        document = self._account.document(_uuid(id), elapsed)
        # What the documents share must not change for all when one is changed.
        return cast(dict[str, object], json.loads(as_json(document)))

    def put(self, id: UUID | str, /, *, status: str | None = None, **fields: object) -> None:
        """Fix fields of one execution, which exists again if it was removed.

        With a `status` all of it is as in that status and stands still; any word will do.
        `fields` are the contract's own (another name is a TypeError) and go over everything.
        """
        known = self._account.stories.fields
        if unknown := sorted(fields.keys() - known):
            raise TypeError(
                f"an execution has no field {unknown[0]!r} in this contract; it has "
                + ", ".join(sorted(known))
            )
        json.dumps(fields)  # What is no JSON is the caller's TypeError, and now.
        self._account.put(_uuid(id), fields if status is None else {**fields, "status": status})

    def remove(self, id: UUID | str) -> None:
        """Answer 404 for this id from now on, list it no more, and forget what was put for it.

        It may be that of an execution or of one of its contacts.
        """
        self._account.remove(_uuid(id))

    @property
    def flows(self) -> list[UUID]:
        """The flows that can be run."""
        return list(self._account.stories.flows)

    def start(self, flow: UUID | str, contacts: Sequence[Mapping[str, object]]) -> UUID:
        """Make an execution of a flow for these contacts, as a run does, and give its id."""
        return self._account.run(_uuid(flow), contacts, self._elapsed())

    @property
    def runs_created(self) -> int:
        """How many executions were started by a run, since the fake was made."""
        return self._account.runs

    # --- the lists

    @property
    def shift(self) -> float:
        """How lists change while they are read: about so many rows are inserted at the top, and as
        many removed anywhere, before each page is. 0.0 leaves them as they are.
        """
        return self._views.shift

    @shift.setter
    def shift(self, rows: float) -> None:
        if not (math.isfinite(rows) and 0 <= rows <= 10):
            raise ValueError(f"FakeHilos.shift takes rows from 0 to 10, not {rows!r}")
        self._views.shift = rows

    @property
    def next_host(self) -> str | None:
        """The origin that `next` and `previous` lead to; None for this server's own."""
        return self._views.next_host

    @next_host.setter
    def next_host(self, origin: str | None) -> None:
        self._views.next_host = origin

    @property
    def violations(self) -> list[str]:
        """What requests had in them that the contract does not know, in words."""
        return self._views.violations

    # --- what it was asked

    @property
    def in_flight(self) -> int:
        """How many requests are being answered now."""
        return self._in_flight

    @property
    def open_connections(self) -> int:
        """How many TCP connections are open now."""
        return len(self._web.connections) if self._web else 0

    def reset_counts(self) -> None:
        """Count from zero. The limit, faults' `times` and what is in flight go on as they are."""
        self.requests = 0
        self.accepted = 0
        self.refused = 0
        self.faulted = 0
        self.connections = 0
        self.max_in_flight = self._in_flight
        self.asked: Counter[UUID] = Counter()
        self.arrivals: deque[tuple[float, UUID]] = deque(maxlen=_ARRIVALS_KEPT)

    # --- running

    async def __aenter__(self) -> "FakeHilos":
        if self._listener is not None:
            raise RuntimeError("this FakeHilos is running already")
        loop = asyncio.get_running_loop()
        # Cancelled with the connection, so that a delay does not outlive the one who waits for it.
        self._web = web.Server(self._serve, handler_cancellation=True, access_log=None)
        self._listener = await loop.create_server(
            self._connection, self._host, self._asked_port, backlog=1_024
        )
        self._port = self._listener.sockets[0].getsockname()[1]
        self._started_at = self._clock()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        server, listener = self._web, self._listener
        if server is None or listener is None:
            return
        self._listener = None
        stop_accepting(listener)
        # In a task of its own: a cancelled scope would not let this one wait.
        self._closing = asyncio.create_task(close(listener, server))
        await asyncio.shield(self._closing)

    def _connection(self) -> asyncio.Protocol:
        assert self._web is not None
        self.connections += 1
        return self._web()

    # --- one request

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests += 1
        self._in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self._in_flight)
        try:
            question = await _read(request)
            reply, fault = self._judge(request, question, self._clock())
            if self.latency:
                await asyncio.sleep(self.latency)
            if fault is None:
                return response(reply)
            self.faulted += 1
            return await strike(fault, request, reply)
        finally:
            self._in_flight -= 1

    def _judge(
        self, request: web.BaseRequest, question: Question | None, now: float
    ) -> tuple[Reply, Fault | None]:
        """Say what the API answers, and which fault comes between.

        In the order of Django and its REST framework: path, key, limit, method, the id itself. What
        comes out as another 4xx than 408 has started no run; under any other fault one has happened,
        as on a server whose answer gets lost.
        """
        if question is None:
            return NO_SUCH_PATH, None
        if question.id is not None:
            self.asked[question.id] += 1
            self.arrivals.append((now, question.id))
        if (refusal := self._refused_key(request)) is not None:
            return refusal, None
        limiter = self._limiter
        if limiter is not None and (wait := limiter.ask(now)) is not None:
            self.refused += 1
            return self._refused_by(limiter, wait, now), None
        self.accepted += 1
        fields = limiter.headers(now, epoch=time.time()) if limiter is not None else {}
        fault = None
        if question.has_view and (question.text is None or question.id is not None):
            fault = self._picker.pick(self.faults, question.key, question.about)
        if fault is not None and fault.refuses:
            return Reply(fault.code, b"", headers=fields), fault
        return _with(self._views.answer(question, self._elapsed()), fields), fault

    def _refused_key(self, request: web.BaseRequest) -> Reply | None:
        headers = request.headers
        given = headers.get("Authorization") or headers.get("Token") or ""
        word, _, key = given.partition(" ")
        if word.lower() != "token":
            if "Api-Token" not in headers:
                return NO_CREDENTIALS
            key = headers["Api-Token"]
        return INVALID_TOKEN if self._revoked or key.strip() != self._token else None

    @staticmethod
    def _refused_by(limiter: FakeLimiter, wait: float, now: float) -> Reply:
        headers = limiter.headers(now, epoch=time.time())
        advice = limiter.limit.advice(wait)
        if advice is not None:
            headers["Retry-After"] = advice
        return throttled(advice or str(math.ceil(wait)), headers)

    def _elapsed(self) -> float:
        return 0.0 if self._started_at is None else self._clock() - self._started_at


def _with(reply: Reply, fields: dict[str, str]) -> Reply:
    return reply._replace(headers={**reply.headers, **fields}) if fields else reply


async def _read(request: web.BaseRequest) -> Question | None:
    """The question that a request is; None for a path that no view serves."""
    path = request.path.removeprefix(_PREFIX)
    found = read_path(path) if path != request.path else None
    if found is None:
        return None
    endpoint, text = found
    return Question(
        endpoint,
        text,
        None if text is None else uuid_or_none(text),
        request.method,
        str(request.url),
        tuple(request.query.items()),
        request.content_type,
        await request.read() if request.method == "POST" else b"",
    )


def _uuid(id: UUID | str) -> UUID:
    if isinstance(id, UUID):
        return id
    try:
        return UUID(id)
    except (ValueError, AttributeError, TypeError):
        raise ValueError(f"an execution's id is a UUID, not {id!r}") from None


def _must_be(kind: type, given: object, option: str) -> None:
    if not isinstance(given, kind):
        raise TypeError(f"FakeHilos({option}=...) takes {kind.__name__}, not {given!r}")


def _loopback(host: str) -> str:
    # Not by name: "localhost" may be two addresses, and a free port is free on one of them.
    if host == "localhost":
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(
            f"FakeHilos(host=...) takes an address of loopback, not {host!r}"
        ) from None
    if not address.is_loopback:
        raise ValueError(f"FakeHilos listens on loopback only, not on {host}")
    return host
