"""What OpenTelemetry is told: a span for each lookup and each batch, and the metrics of a process.

A session imports this module only where OpenTelemetry's API is installed. Places where something
happens open a context manager of this module, or call a ``Tally``, if somebody listens. The type and
the status of an error are told, its message never: it may hold anything.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import threading
import time
from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakKeyDictionary

from opentelemetry import context, metrics, trace
from opentelemetry.trace import StatusCode

from hilos_async._log import logger
from hilos_async._version import __version__
from hilos_async.errors import HilosError, StatusError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from opentelemetry.metrics import CallbackOptions, Meter, Observation
    from opentelemetry.trace import Span, Tracer
    from yarl import URL

    from hilos_async._pace.pacer import RateLimit

    Server = dict[str, str | int]

_BOUNDARIES: Final = "explicit_bucket_boundaries_advisory"
if _BOUNDARIES not in inspect.signature(metrics.Meter.create_histogram).parameters:
    # Without it, histograms have the buckets of milliseconds: 0, 5, 10 and so on.
    logger.warning("opentelemetry-api is older than 1.30: no spans and no metrics of hilos_async")
    raise ImportError("opentelemetry-api is older than 1.30", name="opentelemetry")

# Seconds: a request takes a fraction of one, a lookup that waits for a pause takes minutes.
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Paced(Protocol):
    """A session, as far as its pace is shown."""

    def limit(self) -> RateLimit | None:
        """The limit that it keeps; ``None`` if it has none, or is closed."""
        ...


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


class Batched(Protocol):
    """A batch, as far as it is counted: ids given, and how many ended how."""

    count: int | None
    fetched: int
    failed: int


class Tally:
    """What happens to one call, told to whoever listens."""

    __slots__ = ("_attempts", "_counts", "_refusals", "_telemetry", "_waited", "span")

    def __init__(self, telemetry: Telemetry, counts: Counts) -> None:
        self._telemetry = telemetry
        self._counts = counts
        self._attempts: int | None = None  # nothing was asked
        self._refusals = 0
        self._waited = 0.0  # seconds
        self.span: Span | None = None

    def shared(self) -> None:
        """Another call asks for the same, and this one waits for its answer."""
        if self.span is not None:
            self.span.set_attribute("hilos.source", "shared")

    def again(self, attempts: int, delay: float, error: HilosError | None) -> None:
        """A request is sent again, after so many attempts."""
        if self.span is not None:
            retry = {"hilos.attempts": attempts, "hilos.delay": delay}
            self.span.add_event("hilos.retry", {**retry, **_failure(error)})

    def attempted(self, attempts: int, was_sent: bool, *, refused: bool, waited: float) -> None:
        """An attempt has ended; ``attempts`` requests were sent so far, this one included."""
        if was_sent:
            self._counts.sent(again=attempts > 1, refused=refused)
        self._telemetry.wait_time.record(waited, self._counts.server)
        self._attempts = attempts
        self._refusals += refused
        self._waited += waited

    def sum_up(self) -> None:
        """Write the sums onto the span, if something was asked."""
        if self.span is not None and self._attempts is not None:
            self.span.set_attributes(
                {
                    "hilos.source": "request",
                    "hilos.attempts": self._attempts,
                    "hilos.refusals": self._refusals,
                    "hilos.pace.wait_time": self._waited,
                }
            )


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
        self._paced: WeakKeyDictionary[Paced, str] = WeakKeyDictionary()
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

    def counts_of(self, url: URL, session: Paced) -> Counts:
        """Where a new session counts; its limit is shown as long as it is open."""
        with self._lock:
            self._paced[session] = url.authority
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

    @contextlib.contextmanager
    def lookup(
        self, counts: Counts, operation: str, about: Mapping[str, str | int]
    ) -> Generator[Tally, None, None]:
        """Count one call of an operation, and run it as a span if somebody takes spans."""
        began, outcome = time.monotonic(), counts.server
        counts.under_way(1)
        tally = Tally(self, counts)
        try:
            if not self.is_traced:
                yield tally
                return
            with self.span(operation, {**outcome, **about}) as tally.span:
                try:
                    yield tally
                finally:
                    tally.sum_up()
        except BaseException as error:
            outcome = {**outcome, "error.type": type(error).__name__}
            raise
        finally:
            counts.under_way(-1)
            self.duration.record(time.monotonic() - began, outcome)

    @contextlib.contextmanager
    def batch(self, operation: str, batch: Batched) -> Generator[None, None, None]:
        """Run a batch as a span, the parent of those of its lookups."""
        count = batch.count
        with self.span(operation, {} if count is None else {"hilos.batch.ids": count}) as span:
            try:
                yield
            finally:
                counts = {"hilos.batch.fetched": batch.fetched, "hilos.batch.failed": batch.failed}
                span.set_attributes(counts)

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
        for session, authority in paced:
            limit = session.limit()
            if limit is not None:
                lowest[authority] = min(lowest.get(authority, math.inf), limit.rate)
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


def _failure(error: BaseException | None) -> dict[str, str | int]:
    found: dict[str, str | int] = {"error.type": type(error).__name__}
    if isinstance(error, StatusError):
        found["http.response.status_code"] = error.status
    return found
