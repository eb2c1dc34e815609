"""OpenTelemetry: spans and metrics of lookups and batches, exported to memory and compared whole."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

pytest.importorskip("opentelemetry.sdk", reason="the OpenTelemetry SDK is not installed")

from opentelemetry import trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry, generate_latest

import hilos_async
from benchmarks import telemetry as benchmark
from hilos_async import (
    AuthenticationError,
    DeadlineExceededError,
    HilosError,
    RateLimit,
    RetryPolicy,
)
from hilos_async._wire import telemetry as _telemetry
from hilos_async.testing import FakeHilos, Fault
from tests.markdown_blocks import ROOT, Block, blocks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.anyio

KEY = "sk-9f8e7d6c5b4a-very-secret"
# A number of the fake's, but not within another: records are full of digits.
PRIVATE = re.compile(rf"{KEY}|[\w.]+@[\w.]+|(?<![\w.])\+?52155\d{{8}}(?!\w)")
assert PRIVATE.search("from +5215512345678")
QUICK = RetryPolicy(attempts=2, max_backoff=0.001)
IDS = [UUID(int=number) for number in range(1, 31)]


class Told:
    """What was exported: spans as they ended, metrics as they are now."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(sampler=sampler)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider([self._reader])
        self.telemetry = _telemetry.Telemetry(
            self.tracers.get_tracer("hilos_async"), self.meters.get_meter("hilos_async")
        )
        # Otherwise it waits for providers of the whole process.
        self.telemetry.is_traced = self.telemetry.is_heard = True

    @property
    def everything(self) -> str:
        """All that left the process."""
        metrics = self._reader.get_metrics_data()
        spans = "".join(span.to_json() for span in self.spans())
        return spans + ("" if metrics is None else metrics.to_json())

    def spans(self, name: str | None = None) -> list[ReadableSpan]:
        return [s for s in self._exporter.get_finished_spans() if name in (None, s.name)]

    def span(self, name: str) -> ReadableSpan:
        [span] = self.spans(name)
        return span

    def lookup(self, execution_id: UUID) -> ReadableSpan:
        [span] = (
            span
            for span in self.spans("get_execution")
            if about(span)["hilos.execution.id"] == str(execution_id)
        )
        return span

    def points(self) -> dict[str, list[Any]]:
        """The data points of every metric of the library, by its name."""
        data = self._reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            if scope.scope.name == "hilos_async"
            for metric in scope.metrics
        }

    def value(self, name: str, fake: FakeHilos) -> float | None:
        """What a metric without further attributes says of that server; ``None``: nothing."""
        found = [
            point.value
            for point in self.points().get(f"hilos.client.{name}", ())
            if point.attributes == server(fake)
        ]
        assert len(found) < 2
        return found[0] if found else None


def about(span: ReadableSpan) -> dict[str, object]:
    """The attributes."""
    return dict(span.attributes or {})


def server(fake: FakeHilos) -> dict[str, object]:
    """What every metric and every lookup's span says of the server."""
    port = int(fake.base_url.split(":")[2].split("/")[0])
    return {"server.address": "127.0.0.1", "server.port": port}


def is_child(span: ReadableSpan, parent: ReadableSpan) -> bool:
    context = parent.get_span_context()
    return context is not None and span.parent == context


def set_up(monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
    monkeypatch.setattr(_telemetry, "telemetry", lambda: told.telemetry)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    told = Told()
    set_up(monkeypatch, told)
    instrumentor = AioHttpClientInstrumentor()
    instrumentor.instrument(tracer_provider=told.tracers, meter_provider=told.meters)
    yield told
    instrumentor.uninstrument()


@pytest.fixture
async def fake() -> AsyncIterator[FakeHilos]:
    async with FakeHilos(KEY) as server:
        yield server


# A batch in which everything happens

OUTCOMES = {
    "fine": None,
    "fails once": None,
    "refused once": None,
    "reset": "TransportError",
    "missing": "NotFoundError",
    "broken": "ServerError",
    "html": "DecodeError",
}
OF = dict(zip(OUTCOMES, IDS, strict=False))
ATTEMPTS = {"fails once": 2, "refused once": 2, "reset": 2, "broken": 2}
STATUSES = {"missing": 404, "broken": 500}
FAULTS = [
    Fault.status(503, ids=[OF["fails once"]], times=1),
    Fault.status(429, ids=[OF["refused once"]], times=1),
    Fault.reset("body", ids=[OF["reset"]]),
    Fault.status(500, ids=[OF["broken"]]),
    Fault.body(b"<html>", ids=[OF["html"]]),
]


async def test_spans_and_metrics_of_a_batch_with_retries_refusals_and_failures(
    told: Told, fake: FakeHilos
) -> None:
    fake.faults = list(FAULTS)
    fake.remove(OF["missing"])
    # A window so short that the pause, which lasts one, is too.
    async with fake.session(pace=RateLimit(50, per=0.05), retry=QUICK) as hilos:
        batch = await hilos.gather_executions([*OF.values(), "no id"])
        stats = hilos.stats
    assert len(batch) == 8

    whole = told.span("gather_executions")
    assert whole.parent is None
    assert whole.kind is SpanKind.INTERNAL
    assert whole.status.status_code is StatusCode.UNSET
    assert about(whole) == {
        "hilos.batch.ids": 8,
        "hilos.batch.fetched": 3,
        "hilos.batch.failed": 5,
    }
    assert len(told.spans("get_execution")) == 7
    for what, error in OUTCOMES.items():
        span = told.lookup(OF[what])
        assert is_child(span, whole)
        assert span.kind is SpanKind.INTERNAL
        assert span.status.status_code is (StatusCode.ERROR if error else StatusCode.UNSET)
        assert span.status.description is None
        attributes = about(span)
        waited = attributes.pop("hilos.pace.wait_time")
        assert isinstance(waited, float)
        assert waited >= 0
        expected = {
            **server(fake),
            "hilos.execution.id": str(OF[what]),
            "hilos.source": "request",
            "hilos.attempts": ATTEMPTS.get(what, 1),
            "hilos.refusals": int(what == "refused once"),
        }
        if error:
            expected["error.type"] = error
        if what in STATUSES:
            expected["http.response.status_code"] = STATUSES[what]
        assert attributes == expected
        assert len(span.events) == ATTEMPTS.get(what, 1) - 1
        attempts = [one for one in told.spans("GET") if is_child(one, span)]
        assert len(attempts) == ATTEMPTS.get(what, 1)
        assert {one.kind for one in attempts} == {SpanKind.CLIENT}
    [retry] = told.lookup(OF["fails once"]).events
    said = dict(retry.attributes or {})
    assert retry.name == "hilos.retry"
    assert 0 <= said.pop("hilos.delay") <= 0.001  # type: ignore[operator]  # it is a float
    assert said == {
        "hilos.attempts": 1,
        "error.type": "ServerError",
        "http.response.status_code": 503,
    }
    assert len(told.spans()) == 1 + 7 + 11

    assert (stats.requests, stats.retries, stats.refusals) == (11, 4, 1)
    assert told.value("requests", fake) == 11
    assert told.value("retries", fake) == 4
    assert told.value("refusals", fake) == 1
    assert told.value("active_lookups", fake) == 0
    [waits] = told.points()["hilos.client.pace.wait_time"]
    assert (waits.count, waits.attributes) == (11, server(fake))
    assert 0 < waits.sum < 10  # in seconds
    durations = told.points()["hilos.client.lookup.duration"]
    ended = {point.attributes.get("error.type"): point.count for point in durations}
    assert ended == Counter(OUTCOMES.values())
    for point in durations:
        kept = {key: value for key, value in point.attributes.items() if key != "error.type"}
        assert kept == server(fake)
    assert not PRIVATE.search(told.everything)


async def test_names_units_and_kinds_of_the_metrics_are_those_of_the_page(
    told: Told, fake: FakeHilos
) -> None:
    async with fake.session(pace=RateLimit(500)) as hilos:
        await hilos.get_execution(IDS[0])
        data = told._reader.get_metrics_data()
    assert data is not None
    made = {
        (metric.name, type(metric.data).__name__, metric.unit)
        for scope in data.resource_metrics[0].scope_metrics
        if scope.scope.name == "hilos_async"
        for metric in scope.metrics
    }
    kinds = {"counter": "Sum", "up-down counter": "Sum", "histogram": "Histogram", "gauge": "Gauge"}
    page = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(hilos\.client\.[\w.]+)` \| ([\w-]+(?: \w+)?), `([^`]+)` \|", page, re.M
    )
    assert {(name, kinds[kind], unit) for name, kind, unit in rows} == made


async def test_the_attributes_of_the_spans_are_those_of_the_page(
    told: Told, fake: FakeHilos
) -> None:
    fake.faults = [Fault.status(500)]
    async with fake.session(retry=QUICK) as hilos:
        await hilos.gather_executions(IDS[:1])
    ours = [*told.spans("get_execution"), *told.spans("gather_executions")]
    said = {name for span in ours for name in about(span)}
    said |= {name for span in ours for event in span.events for name in event.attributes or ()}
    page = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `((?:hilos|server|http|error)\.[\w.]+)` \| (?:lookup|batch|retry)", page, re.M
    )
    assert set(rows) == said


# Whose span it is


async def test_a_session_made_before_the_instrumentation_has_attempt_spans(
    monkeypatch: pytest.MonkeyPatch, fake: FakeHilos
) -> None:
    told = Told()
    set_up(monkeypatch, told)
    async with fake.session() as hilos:
        instrumentor = AioHttpClientInstrumentor()
        instrumentor.instrument(tracer_provider=told.tracers)
        try:
            await hilos.get_execution(IDS[0])
        finally:
            instrumentor.uninstrument()
    assert is_child(told.span("GET"), told.span("get_execution"))


async def test_lookups_stand_under_the_span_that_asked_for_them(
    told: Told, fake: FakeHilos
) -> None:
    tracer = told.tracers.get_tracer("app")
    fake.put(IDS[2], status="COMPLETED")
    async with fake.session() as hilos:
        with tracer.start_as_current_span("a page"):
            await hilos.get_execution(IDS[0])
            async with hilos.stream_executions(iter(IDS[1:2])) as lookups:
                with tracer.start_as_current_span("the loop"):
                    async for lookup in lookups:
                        assert lookup.execution
            async with hilos.watch_executions(IDS[2:3]) as changes:
                async for change in changes:
                    assert change.ended
        await hilos.get_execution(IDS[3])
    page, stream = told.span("a page"), told.span("stream_executions")
    assert is_child(told.lookup(IDS[0]), page)
    assert is_child(stream, page)
    assert about(stream) == {"hilos.batch.fetched": 1, "hilos.batch.failed": 0}
    assert is_child(told.lookup(IDS[1]), stream)
    assert is_child(told.lookup(IDS[2]), page)  # a watch has no span: it may last for days
    assert told.lookup(IDS[3]).parent is None


async def test_an_answer_that_was_shared_or_kept_says_so_and_counts_no_request(
    told: Told, fake: FakeHilos
) -> None:
    fake.latency = 0.02
    async with fake.session() as hilos:
        await asyncio.gather(*(hilos.get_execution(IDS[0]) for _ in range(3)))
        await hilos.get_execution(IDS[1], max_age=60)
        await hilos.get_execution(IDS[1], max_age=60)
    sources = [about(span)["hilos.source"] for span in told.spans("get_execution")]
    assert sorted(map(str, sources)) == ["kept", "request", "request", "shared", "shared"]
    for span in told.spans("get_execution"):
        assert ("hilos.attempts" in about(span)) is (about(span)["hilos.source"] == "request")
    assert told.value("requests", fake) == 2
    assert sum(point.count for point in told.points()["hilos.client.lookup.duration"]) == 5


async def test_who_cancels_did_not_fail_and_nothing_stays_in_flight(
    told: Told, fake: FakeHilos
) -> None:
    fake.latency = 9.0
    async with fake.session() as hilos:
        async with hilos.stream_executions(IDS):
            while not fake.in_flight:  # noqa: ASYNC110 - it has no event for that
                await asyncio.sleep(0.001)
            active = told.value("active_lookups", fake)
            assert active
    assert told.value("active_lookups", fake) == 0
    cancelled = [*told.spans("get_execution"), told.span("stream_executions")]
    assert len(cancelled) == 1 + active
    for span in cancelled:
        assert about(span)["error.type"] == "CancelledError"
        assert span.status.status_code is StatusCode.UNSET
    [durations] = told.points()["hilos.client.lookup.duration"]
    assert durations.attributes["error.type"] == "CancelledError"


async def test_a_batch_that_the_key_ends_is_an_error_and_says_what_it_had(
    told: Told, fake: FakeHilos
) -> None:
    async with fake.session(max_concurrency=1) as hilos:

        def ids() -> Iterator[UUID]:
            yield IDS[0]
            fake.revoke()
            yield from IDS[1:]

        with pytest.raises(AuthenticationError):
            await hilos.gather_executions(ids())
    span = told.span("gather_executions")
    assert span.status.status_code is StatusCode.ERROR
    assert about(span) == {
        "hilos.batch.fetched": 1,
        "hilos.batch.failed": 0,
        "error.type": "AuthenticationError",
        "http.response.status_code": 401,
    }


@pytest.mark.usefixtures("quick_time")
async def test_time_spent_waiting_counts_even_if_it_was_in_vain(
    told: Told, fake: FakeHilos
) -> None:
    async with fake.session(pace=RateLimit(1)) as hilos:
        await hilos.get_execution(IDS[0])
        with pytest.raises(DeadlineExceededError):
            await hilos.get_execution(IDS[1], timeout=0.01)
    assert about(told.lookup(IDS[1]))["hilos.attempts"] == 0
    assert told.value("requests", fake) == 1
    [waits] = told.points()["hilos.client.pace.wait_time"]
    assert waits.count == 2


# Several sessions


async def test_counts_are_the_servers_and_do_not_fall_when_sessions_end(
    told: Told, fake: FakeHilos
) -> None:
    async with FakeHilos() as elsewhere:
        async with fake.session() as one, fake.session() as other, elsewhere.session() as far:
            await one.gather_executions(IDS[:3])
            await one.with_options(timeout=9.0).get_execution(IDS[4])
            await other.get_execution(IDS[0])
            await far.get_execution(IDS[0])
        assert told.value("requests", fake) == 5
        assert told.value("requests", elsewhere) == 1
        async with fake.session() as later:
            await later.get_execution(IDS[0])
        assert told.value("requests", fake) == 6
        assert told.value("retries", fake) == 0  # there from the start: a rate needs a zero


async def test_the_limit_is_the_lowest_of_the_open_sessions(told: Told, fake: FakeHilos) -> None:
    assert told.value("pace.limit", fake) is None
    async with fake.session(pace=RateLimit(600, per=60)) as slow:
        assert told.value("pace.limit", fake) == 10.0
        async with fake.session(pace=RateLimit(5)), fake.session(pace="off"):
            assert told.value("pace.limit", fake) == 5.0
        assert told.value("pace.limit", fake) == 10.0
        slow.with_options(timeout=1.0)
    assert told.value("pace.limit", fake) is None


# Who takes no spans


async def test_a_lookup_that_is_not_sampled_is_counted_all_the_same(
    monkeypatch: pytest.MonkeyPatch, fake: FakeHilos
) -> None:
    told = Told(ALWAYS_OFF)
    set_up(monkeypatch, told)
    fake.faults = [Fault.status(503, times=1)]
    async with fake.session(retry=QUICK) as hilos:
        await hilos.gather_executions(IDS[:3])
    assert told.spans() == []
    assert told.value("requests", fake) == 6
    assert told.value("retries", fake) == 3


async def test_where_the_process_takes_no_spans_the_callers_own_span_is_left_alone(
    told: Told, fake: FakeHilos
) -> None:
    told.telemetry.is_traced = False  # as long as no provider is set for the process
    fake.faults = [Fault.status(503, times=1)]
    with told.tracers.get_tracer("app").start_as_current_span("a page"):
        async with fake.session(retry=QUICK) as hilos:
            await hilos.get_execution(IDS[0])
    assert told.spans("get_execution") == []
    assert about(told.span("a page")) == {}
    assert told.span("a page").events == ()
    assert told.value("requests", fake) == 2


# Nothing private


TROUBLES = [
    Fault.status(401, detail=f"Invalid token {KEY}."),
    Fault.status(403, detail="ana@empresa.example may not, call +5215512345678"),
    Fault.status(429, detail=f"{KEY} is too fast", retry_after=1_000),
    Fault.status(500, detail="ana@empresa.example"),
    Fault.reset("body"),
    Fault.delay(9.0),
    Fault.body(f'{{"detail": "{KEY} ana@empresa.example"}}'.encode()),
    Fault.body(f'{{"id": "+5215512345678 ana@empresa.example {KEY}"}}'.encode()),
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda fault: repr(fault)[:60])
@pytest.mark.usefixtures("quick_time")
async def test_no_span_and_no_metric_holds_the_key_an_address_or_a_phone_number(
    trouble: Fault, told: Told, fake: FakeHilos
) -> None:
    document = str(fake.document(IDS[0]))
    assert PRIVATE.search(document), "there is something to find"
    async with fake.session(retry=QUICK) as patient:
        await patient.get_execution(IDS[0])
        hilos = patient.with_options(attempt_timeout=0.1)
        fake.faults = [trouble]
        with pytest.raises(HilosError):
            await hilos.get_execution(IDS[0])
        with pytest.raises((HilosError, ExceptionGroup)):
            (await hilos.gather_executions(IDS[:2], timeout=0.3)).raise_for_errors()
    assert about(told.spans("get_execution")[-1])["error.type"]
    assert not PRIVATE.search(told.everything)


async def test_of_a_broken_status_line_our_spans_tell_nothing_either(
    told: Told, fake: FakeHilos
) -> None:
    """The attempt's own span has aiohttp's words for it: the page warns of that."""
    fake.faults = [Fault.raw(f"HTTP/1.1 {KEY}\r\n\r\n".encode())]
    async with fake.session(retry=QUICK) as hilos:
        with pytest.raises(HilosError):
            await hilos.get_execution(IDS[0])
    assert KEY not in told.span("get_execution").to_json()


# In a process of its own: what is installed, and what is set up when


def output_of(program: str, **more: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=os.environ | more,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout + ran.stderr


LOOKUP = """
import asyncio
from hilos_async.testing import FakeHilos

async def main():
    async with FakeHilos() as fake, fake.session() as hilos:
        batch = await hilos.gather_executions(["a1b2c3d4-0000-4000-8000-000000000001"])
        print(len(batch.executions), hilos.stats.requests, hilos._client.telemetry is None)

asyncio.run(main())
"""


def test_without_opentelemetry_nothing_is_missing_and_nothing_is_wrapped() -> None:
    blocked = "import sys; sys.modules['opentelemetry'] = None"
    assert output_of(f"{blocked}\n{LOOKUP}") == "1 1 True\n"


def test_importing_the_library_imports_no_opentelemetry() -> None:
    program = "import sys, hilos_async; print([n for n in sys.modules if 'opentelemetry' in n])"
    assert output_of(program) == "[]\n"


def test_an_opentelemetry_that_is_too_old_is_told_and_left_alone() -> None:
    old = """
import logging
from opentelemetry import metrics
metrics.Meter.create_histogram = lambda self, name, unit="", description="": None
logging.basicConfig(format="%(message)s")
"""
    said = output_of(f"{old}\n{LOOKUP}")
    assert "1 1 True\n" in said
    assert "opentelemetry-api is older than 1.30: no spans and no metrics of hilos_async\n" in said


def test_what_is_set_up_after_the_session_was_made_is_used() -> None:
    program = """
import asyncio
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from hilos_async.testing import FakeHilos

async def main():
    async with FakeHilos() as fake, fake.session() as hilos:
        await hilos.get_execution("a1b2c3d4-0000-4000-8000-000000000001")
        spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        trace.set_tracer_provider(provider)
        metrics.set_meter_provider(MeterProvider([reader]))
        await hilos.get_execution("a1b2c3d4-0000-4000-8000-000000000001")
        print([span.name for span in spans.get_finished_spans()])
        found = reader.get_metrics_data().resource_metrics[0].scope_metrics[0]
        counted = {m.name: m.data.data_points[0].value for m in found.metrics if "requests" in m.name}
        print(found.scope.name, counted)

asyncio.run(main())
"""
    expected = ["['get_execution']", "hilos_async {'hilos.client.requests': 1}"]
    assert output_of(program).splitlines() == expected


# The page's recipes set up the SDK for a whole process, so each runs in one of its own

RECIPES = [block for block in blocks("python") if block.path.name == "observability.md"]
ASK_THE_APP = """
import asyncio, httpx

async def ask():
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app):
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            campaign = await client.get("/campaigns/a1b2c3d4-0000-4000-8000-000000000001")
            print(campaign.json()["flow"]["name"])
            print("hilos_client_requests_total{" in (await client.get("/metrics/")).text)

asyncio.run(ask())
"""


@pytest.mark.parametrize("block", RECIPES, ids=str)
async def test_a_recipe_of_the_page_runs_and_prints_what_the_page_shows(block: Block) -> None:
    program, shown = block.text, block.output
    if shown is None:
        program, shown = f"{program}\n{ASK_THE_APP}", "Carrito abandonado (recompra)\nTrue\n"
    async with FakeHilos(KEY) as fake:
        environment = {"HILOS_API_KEY": KEY, "HILOS_BASE_URL": fake.base_url}
        printed = await asyncio.to_thread(output_of, program, **environment)
    port = str(server(fake)["server.port"])
    assert printed.replace(port, "443").replace("127.0.0.1", "api.hilos.io") == shown


async def test_the_rules_of_the_page_name_metrics_as_prometheus_has_them(fake: FakeHilos) -> None:
    registry = CollectorRegistry()
    meters = MeterProvider([PrometheusMetricReader(registry=registry)])
    counts = _telemetry.Telemetry(trace.get_tracer("x"), meters.get_meter("x"))
    counts.is_heard = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_telemetry, "telemetry", lambda: counts)
        async with fake.session(pace=RateLimit(500)) as hilos:
            await hilos.get_execution(IDS[0])
            there = set(re.findall(r"^(hilos_client\w+)", generate_latest(registry).decode(), re.M))
    [rules] = (b.text for b in blocks("yaml") if b.path.name == "observability.md")
    named = set(re.findall(r"hilos_client\w+", rules))
    assert len(named) > 4
    assert named <= there
    errors = set(re.findall(r"\w+Error\b", rules))
    assert errors <= set(hilos_async.__all__)
    meters.shutdown()


def test_the_benchmark_without_nginx_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.static_server.shutil.which", lambda name: None)
    assert benchmark.main([]) == 2
    assert "apt-get install nginx-light" in capsys.readouterr().err
