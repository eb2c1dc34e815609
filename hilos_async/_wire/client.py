"""What a session is made of: the transport, the gate and its pacer, the dispatch, and its bounds.

A session that was derived from another has bounds of its own; all else they share.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import time
from typing import TYPE_CHECKING, TypeVar

import aiohttp

from hilos_async import _checks, _log
from hilos_async._api.replies import Reader
from hilos_async._version import __version__
from hilos_async._wire import address
from hilos_async._wire.call import SINGLE, Call
from hilos_async._wire.dispatch import Dispatch
from hilos_async._wire.gate import Gate
from hilos_async._wire.options import check_connections, connections, pacer_for
from hilos_async._wire.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from ssl import SSLContext
    from types import ModuleType
    from typing import Literal, Self, Unpack
    from uuid import UUID

    from hilos_async._api.endpoints import Endpoint
    from hilos_async._pace.pacer import Pacer, RateLimit
    from hilos_async._wire.address import Deployment
    from hilos_async._wire.call import Caller, Sending
    from hilos_async._wire.options import Bounds, Options
    from hilos_async._wire.telemetry import Batched, Telemetry

T = TypeVar("T")


class Client:
    """The wiring of one session. Arguments are those of ``HilosSession``, checked where they go."""

    def __init__(
        self,
        *,
        token: str | None,
        account: str | None,
        base_url: str | None,
        auth_header: str,
        allow_http: bool,
        deployment: Deployment | None,
        bounds: Bounds,
        pace: RateLimit | Pacer | Literal["learn", "machine", "off"] | None,
        session: aiohttp.ClientSession | None,
        proxy: str | None,
        ssl: SSLContext | aiohttp.Fingerprint | bool | None,
        trust_env: bool,
        trace_configs: Sequence[aiohttp.TraceConfig],
    ) -> None:
        _log.obey_environment()
        _checks.instance("allow_http", allow_http, bool)
        key = address.api_key(token)
        url = address.resolve_base_url(account, base_url, allow_http)
        check_connections(session, proxy, ssl, trust_env, trace_configs)
        self.deployment = address.deployment_of(url, deployment)
        self.bounds = bounds
        self.clock = time.monotonic
        self._pacer = pacer_for(pace, url)
        self._pacer.bind(address.scope(url, key))
        places = connections(bounds.max_concurrency, session)
        self.gate = Gate(self._pacer, places, clock=self.clock)
        self.transport = Transport(
            url,
            key,
            {
                **address.auth_headers(key, auth_header),
                "Accept": "application/json",
                "Accept-Encoding": "gzip, deflate",
                "User-Agent": f"hilos_async/{__version__} {aiohttp.http.SERVER_SOFTWARE}",
            },
            session=session,
            proxy=proxy,
            ssl=True if ssl is None else ssl,
            trust_env=trust_env,
            trace_configs=trace_configs,
        )
        self.dispatch = Dispatch(self.transport, self.gate, clock=self.clock)
        module = _telemetry_module()
        self.telemetry: Telemetry | None = None if module is None else module.telemetry()
        if self.telemetry is not None:
            self.counts = self.telemetry.counts_of(url, self)

    def bounded_by(self, **options: Unpack[Options]) -> Self:
        """The same with other bounds: connections, pace and what is under way are shared."""
        derived = copy.copy(self)
        derived.bounds = dataclasses.replace(self.bounds, **options)
        return derived

    def limit(self) -> RateLimit | None:
        """The limit that is kept; ``None`` if there is none, or the session is closed."""
        return None if self.transport.closed else self._pacer.pace().limit

    def reader(self, endpoint: Endpoint[T]) -> Reader[T]:
        """A reader of that endpoint's replies, with a memory of its own."""
        return Reader(endpoint, self.transport.without_key)

    async def ask(
        self,
        reader: Reader[T],
        path: str,
        *,
        id: UUID | None = None,
        caller: Caller = SINGLE,
        timeout: float | None = None,
        sending: Sending | None = None,
    ) -> T:
        """What the API answers to one request that nobody else shares.

        ``timeout`` is in seconds, ``None`` for no bound.
        """
        call = Call(reader, path, id, caller, self.bounds, self.clock(), timeout, sending)
        return await self.answer(call)

    async def answer(self, call: Call[T]) -> T:
        """What the API answers to a call, told to OpenTelemetry if somebody listens."""
        self.transport.open()  # a closed session or another loop: before anything waits
        telemetry = self.telemetry
        if telemetry is None or not telemetry.look_for_sdk():
            return await self.dispatch.answer(call)
        operation = call.reader.endpoint.operation
        with telemetry.lookup(self.counts, operation, {}) as call.tally:
            return await self.dispatch.answer(call)

    def told_batch(self, operation: str, batch: Batched) -> AbstractContextManager[None]:
        """A block in which a batch runs: a span of OpenTelemetry if somebody takes them."""
        if self.telemetry is None or not self.telemetry.look_for_sdk():
            return contextlib.nullcontext()
        return self.telemetry.batch(operation, batch)

    async def aclose(self) -> None:
        """Fail whoever still waits, close the connections, and let the pacer tell what is untold."""
        self.transport.closed = True  # before anybody is told so
        self.gate.close(self.transport.closed_error)
        await self.transport.aclose()
        await self._pacer.flush()


@functools.cache
def _telemetry_module() -> ModuleType | None:
    """The module that tells OpenTelemetry; ``None`` where its API is not installed."""
    try:
        from hilos_async._wire import telemetry
    except ImportError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        return None
    return telemetry
