"""What OpenTelemetry is told: a span for each lookup and each batch, and the metrics of a process.

Knows OpenTelemetry's API; a session imports this module only where that is installed, and the rooms
that it extends know nothing of it, so that it costs nobody else anything. Refuses to know the SDK,
and what an error says: its type and its status are told, its message may hold anything.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import threading
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from opentelemetry import context, metrics, trace
from opentelemetry.trace import StatusCode

from hilos_async._log import logger
from hilos_async._many.fanout import FanOut
from hilos_async._many.lookups import Lookups
from hilos_async._version import __version__
from hilos_async._wire.retry import is_refusal
from hilos_async.errors import HilosError, StatusError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from uuid import UUID

    from opentelemetry.metrics import CallbackOptions, Meter, Observation
    from opentelemetry.trace import Span, Tracer

    from hilos_async._api.objects import FlowExecution
    from hilos_async._wire.call import Call, Caller
    from hilos_async._wire.gate import Gate
    from hilos_async._wire.options import Bounds, Freshness
    from hilos_async._wire.transport import Transport

    Server = dict[str, str | int]

_BOUNDARIES: Final = "explicit_bucket_boundaries_advisory"
if _BOUNDARIES not in inspect.signature(metrics.Meter.create_histogram).parameters:
    # Without it, histograms have the buckets of milliseconds: 0, 5, 10 and so on.
    logger.warning("opentelemetry-api is older than 1.30: no spans and no metrics of hilos_async")
    raise ImportError("opentelemetry-api is older than 1.30", name="opentelemetry")

# Seconds: a request takes a fraction of one, a lookup that waits for a pause takes minutes.
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Counts:
    """What all sessions that ask one server have done so far, in whichever threads they run."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.requests = self.retries = self.refusals = self.active = 0
        self._lock = threading.Lock()

    def under_way(self, change: int) -> None:
        """Count a lookup that begins, or one that has ended."""
        with self._lock:
            self.active += change

    def sent(self, *, again: bool, refused: bool) -> None:
        """Count a request: for a lookup that had failed before, answered by asking to wait."""
        with self._lock:
            self.requests += 1
            self.retries += again
            self.refusals += refused


class Telemetry:
    """The tracer and the instruments that all sessions of a process share.

    Counts are read when somebody exports: so a lookup pays next to nothing for them, and they do not
    fall when a session is closed.
    """

    def __init__(self, tracer: Tracer, meter: Meter) -> None:
        self._tracer = tracer
        self.is_traced = False  # whether somebody takes spans
        self.is_heard = False  # whether somebody takes spans or metrics
        self._counts: dict[str, Counts] = {}
        self._paced: WeakKeyDictionary[Gate, Transport] = WeakKeyDictionary()
        self._lock = threading.Lock()  # exporters read in threads of their own
        counter, read = meter.create_observable_counter, self._reader
        counter("hilos.client.requests", [read("requests")], "{request}", "Requests sent.")
        counter(
            "hilos.client.retries",
            [read("retries")],
            "{request}",
            "Requests for a lookup that had failed before.",
        )
        counter(
            "hilos.client.refusals",
            [read("refusals")],
            "{request}",
            "Requests answered by asking to wait.",
        )
        meter.create_observable_up_down_counter(
            "hilos.client.active_lookups",
            [read("active")],
            "{lookup}",
            "Lookups under way, waiting ones included.",
        )
        meter.create_observable_gauge(
            "hilos.client.pace.limit",
            [self._limits],
            "{request}/s",
            "Requests per second of the limit that is kept, known or learned.",
        )
        self.duration = meter.create_histogram(
            "hilos.client.lookup.duration",
            "s",
            "Duration of lookups, with waiting and retries.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self.wait_time = meter.create_histogram(
            "hilos.client.pace.wait_time",
            "s",
            "Time that a request waited for its turn.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )

    def counts_of(self, gate: Gate, transport: Transport) -> Counts:
        """Where a new session counts; its limit is shown as long as it is open."""
        url = transport.base_url
        with self._lock:
            self._paced[gate] = transport
            counts = self._counts.get(url.authority)
            if counts is None:
                server: Server = {"server.address": url.host or "", "server.port": url.port or 0}
                counts = self._counts[url.authority] = Counts(server)
            return counts

    def look_for_sdk(self) -> bool:
        """Whether somebody listens: until an SDK is set up, nothing is told or counted."""
        if not self.is_traced:
            self.is_traced = _is_set_up(trace.get_tracer_provider())
            self.is_heard |= self.is_traced or _is_set_up(metrics.get_meter_provider())
        return self.is_heard

    @contextlib.contextmanager
    def span(self, name: str, attributes: Mapping[str, str | int]) -> Generator[Span, None, None]:
        """Run a block as a span, the parent of all that begin in it; an error is its outcome."""
        span = self._tracer.start_span(name, attributes=attributes)
        token = context.attach(trace.set_span_in_context(span))
        try:
            yield span
        except BaseException as error:
            span.set_attributes(_failure(error))
            if isinstance(error, Exception):  # who cancels did not fail
                span.set_status(StatusCode.ERROR)
            raise
        finally:
            context.detach(token)
            span.end()

    def _reader(self, name: str) -> Callable[[CallbackOptions], Iterator[Observation]]:
        def read(options: CallbackOptions) -> Iterator[Observation]:
            with self._lock:
                known = list(self._counts.values())
            for counts in known:
                yield metrics.Observation(getattr(counts, name), counts.server)

        return read

    def _limits(self, options: CallbackOptions) -> Iterator[Observation]:
        with self._lock:
            paced = list(self._paced.items())
        lowest: dict[str, float] = {}  # two keys may have two limits at one host
        for gate, transport in paced:
            limit = gate.pacer.pace().limit
            if limit is not None and not transport.closed:
                known = lowest.get(transport.base_url.authority, math.inf)
                lowest[transport.base_url.authority] = min(known, limit.rate)
        for authority, rate in lowest.items():
            yield metrics.Observation(rate, self._counts[authority].server)


@functools.cache
def telemetry() -> Telemetry:
    """That of the process; what is set up later, OpenTelemetry hands on to it."""
    return Telemetry(
        trace.get_tracer("hilos_async", __version__), metrics.get_meter("hilos_async", __version__)
    )


def _is_set_up(provider: object) -> bool:
    # The API's own providers, which stand in until there are others, pass nothing on.
    api = ("opentelemetry.trace", "opentelemetry.metrics")
    return not type(provider).__module__.startswith(api)


class _Tally:
    """What happened to one lookup so far."""

    __slots__ = ("refusals", "waited")

    def __init__(self) -> None:
        self.refusals = 0
        self.waited = 0.0  # seconds


class TracedLookups(Lookups):
    """Lookups that are counted, and each a span, as soon as somebody listens."""

    def __init__(
        self, transport: Transport, gate: Gate, bounds: Bounds, *, clock: Callable[[], float]
    ) -> None:
        super().__init__(transport, gate, bounds, clock=clock)
        self._telemetry = telemetry()
        self._counts = self._telemetry.counts_of(gate, transport)
        self._tallies: dict[Call, _Tally] = {}  # of the lookups whose span is recorded
        self._looked_for: Caller | None = None

    async def one(
        self,
        execution_id: UUID,
        caller: Caller,
        timeout: float | None,
        fresh: Freshness | None = None,
    ) -> FlowExecution:
        """The execution with that id."""
        if not self._is_heard(caller):
            return await super().one(execution_id, caller, timeout, fresh)
        began, outcome = self.clock(), self._counts.server
        self._counts.under_way(1)
        try:
            if not self._telemetry.is_traced:
                return await super().one(execution_id, caller, timeout, fresh)
            about = {"hilos.execution.id": str(execution_id), "hilos.source": "kept"}
            with self._telemetry.span("get_execution", {**outcome, **about}):
                return await super().one(execution_id, caller, timeout, fresh)
        except BaseException as error:
            outcome = {**outcome, "error.type": type(error).__name__}
            raise
        finally:
            self._counts.under_way(-1)
            self._telemetry.duration.record(self.clock() - began, outcome)

    def _is_heard(self, caller: Caller) -> bool:
        # To look for an SDK takes a microsecond or two: once for a batch is often enough.
        if caller.is_batch and caller is self._looked_for:
            return self._telemetry.is_heard
        self._looked_for = caller
        return self._telemetry.look_for_sdk()

    async def _follow(self, leading: Call, call: Call) -> FlowExecution | HilosError | None:
        if self._telemetry.is_traced:
            trace.get_current_span().set_attribute("hilos.source", "shared")
        return await super()._follow(leading, call)

    async def _lead(self, call: Call) -> FlowExecution:
        # The current span is that of `one`, or the caller's own where nobody takes ours.
        if not self._telemetry.is_traced or not trace.get_current_span().is_recording():
            return await super()._lead(call)
        tally = self._tallies[call] = _Tally()
        try:
            return await super()._lead(call)
        finally:
            del self._tallies[call]
            trace.get_current_span().set_attributes(
                {
                    "hilos.source": "request",
                    "hilos.attempts": call.attempts,
                    "hilos.refusals": tally.refusals,
                    "hilos.pace.wait_time": tally.waited,
                }
            )

    async def _attempt(self, call: Call) -> FlowExecution:
        if not self._telemetry.is_heard:
            return await super()._attempt(call)
        before, asked = call.attempts, self.clock()
        tally = self._tallies.get(call)
        if before and tally:
            retry = {"hilos.attempts": before, "hilos.delay": call.delay}
            trace.get_current_span().add_event(
                "hilos.retry", {**retry, **_failure(call.last_error)}
            )
        refused = False
        try:
            return await super()._attempt(call)
        except HilosError as error:
            refused = call.attempts > before and is_refusal(error)
            raise
        finally:
            if was_sent := call.attempts > before:
                self._counts.sent(again=before > 0, refused=refused)
            waited = (call.sent if was_sent else self.clock()) - asked
            self._telemetry.wait_time.record(waited, self._counts.server)
            if tally:
                tally.refusals += refused
                tally.waited += waited


class TracedFanOut(FanOut):
    """A batch that is a span, and the parent of those of its lookups."""

    async def run(self, workers: int) -> None:
        """Look up all ids with that many workers."""
        if not telemetry().look_for_sdk():
            return await super().run(workers)
        deliver, fetched, failed = self._deliver, 0, 0

        def counting(key: UUID | str, outcome: FlowExecution | HilosError) -> None:
            nonlocal fetched, failed
            failed += isinstance(outcome, HilosError)
            fetched += not isinstance(outcome, HilosError)
            deliver(key, outcome)

        self._deliver = counting
        # Only a stream has a consumer that it must not run ahead of.
        name = "gather_executions" if self._room is None else "stream_executions"
        count = self.source.count
        with telemetry().span(name, {} if count is None else {"hilos.batch.ids": count}) as span:
            try:
                await super().run(workers)
            finally:
                counts = {"hilos.batch.fetched": fetched, "hilos.batch.failed": failed}
                span.set_attributes(counts)


def _failure(error: BaseException | None) -> dict[str, str | int]:
    found: dict[str, str | int] = {"error.type": type(error).__name__}
    if isinstance(error, StatusError):
        found["http.response.status_code"] = error.status
    return found
