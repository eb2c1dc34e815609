"""What OpenTelemetry costs for each lookup: not installed, installed and unused, and with the SDK.

Every way in a process of its own, round after round, against the static server; the figures are the
medians of the ratios within a round. The exporters throw everything away: what a real one spends on
writing and sending is not in them. The library asks at full speed here, so they are the worst case.
Run: python -m benchmarks.telemetry
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import resource
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks.speed_clients import CONCURRENCY, execution_id
from benchmarks.speed_measure import Cores, say
from benchmarks.static_server import NoServerError, StaticServer, serve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilos_async import HilosSession

WAYS = {
    "none": "not installed",
    "api": "`opentelemetry-api` installed, no SDK",
    "metrics": "SDK, metrics only",
    "sampled": "SDK, metrics and spans, 1 batch in 100 sampled",
    "spans": "SDK, metrics and spans",
    "attempts": "the same, and the aiohttp-client instrumentation",
}
ROUNDS, COUNT, WARM_UP = 9, 3_000, 300
BATCH = 100  # lookups; of each batch, a sampler takes all or none


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table; 2 where there is no server."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.telemetry", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--count", type=int, default=COUNT, help="lookups; default: %(default)s")
    options = parser.parse_args(arguments)
    cores = Cores.of_this_machine()
    try:
        with serve(cores.server) as server:
            rounds = [
                _round(number, server, cores.client, options.count)
                for number in range(options.rounds)
            ]
    except NoServerError as error:
        say(str(error))
        return 2
    print("| | CPU for a lookup | × not installed |\n| --- | ---: | ---: |")
    for way, title in WAYS.items():
        cpu = statistics.median(found[way] for found in rounds)
        ratio = statistics.median(found[way] / found["none"] for found in rounds)
        print(f"| {title} | {cpu * 1e6:.0f} µs | {ratio:.2f} |")
    return 0


def _round(number: int, server: StaticServer, core: int, count: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for way in WAYS if number % 2 == 0 else reversed(WAYS):
        command = [sys.executable, "-m", __spec__.name, "--measure", way, server.same]
        ran = subprocess.run([*command, str(core), str(count)], stdout=subprocess.PIPE, check=True)
        found[way] = float(ran.stdout)
        say(f"round {number + 1}: {way} {found[way] * 1e6:.0f} µs")
    return found


def measure(way: str, base_url: str, core: str, count: str) -> None:
    """Print the CPU seconds for a lookup; the process is used up."""
    os.sched_setaffinity(0, {int(core)})
    _prepare(way)
    print(asyncio.run(_lookups(base_url, int(count))), flush=True)
    os._exit(0)  # exporters need not finish


async def _lookups(base_url: str, count: int) -> float:
    from hilos_async import HilosSession

    async with HilosSession("benchmark", base_url=base_url, pace="off") as hilos:
        await _batches(hilos, 0, WARM_UP)
        gc.collect()
        before = _cpu()
        await _batches(hilos, WARM_UP, count)
        return (_cpu() - before) / count


async def _batches(hilos: HilosSession, start: int, count: int) -> None:
    for first in range(start, start + count, BATCH):
        ids = [execution_id(number) for number in range(first, first + BATCH)]
        batch = await hilos.gather_executions(ids, max_concurrency=CONCURRENCY)
        batch.raise_for_errors()


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _prepare(way: str) -> None:
    if way == "none":
        # As if it were not installed: Python finds that there is nothing to import.
        sys.modules["opentelemetry"] = None  # type: ignore[assignment]  # what blocks an import
        return
    from opentelemetry import metrics, trace

    if way == "api":
        return
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    class Nowhere(SpanExporter):
        def export(self, spans: object) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    if way == "metrics":
        return
    sampler = ParentBased(TraceIdRatioBased(0.01 if way == "sampled" else 1.0))
    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    trace.set_tracer_provider(provider)
    if way == "attempts":
        from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor

        AioHttpClientInstrumentor().instrument()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(*sys.argv[2:])
    sys.exit(main())
