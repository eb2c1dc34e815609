"""What was measured, as Markdown: the tables that the documentation's page of performance includes.

Knows the aims and who is compared. Refuses to measure anything.
"""

from __future__ import annotations

import platform
import re
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.speed_clients import CLIENTS
from benchmarks.speed_clients.pending import WAYS
from benchmarks.speed_measure import BASE, FEW, MANY, PENDING, median, ratio

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from benchmarks.speed_measure import Rounds

KB = 1_024
_SHOWN = (
    *("hilos-async", "aiohttp", "msgspec", "anyio", "tenacity", "uvloop", "aiohttp-retry", "httpx"),
    *("openai", "httpx2", "pydantic", "openapi-generator-cli", "openapi-python-client"),
    *("pyreqwest", "httptools"),
)


@dataclass(frozen=True)
class Results:
    """All that one run found; ``skipped`` says why a client was not measured."""

    count: int
    rounds: Rounds
    kept: dict[str, dict[str, float]]
    decoded: dict[str, float]
    pending: dict[str, list[dict[str, float]]]
    scale: dict[str, tuple[float, float, float]]
    imports: dict[str, float]
    skipped: dict[str, str]

    @property
    def clients(self) -> list[str]:
        """Those that were measured, the fastest first."""
        return sorted(self.rounds[0], key=lambda client: ratio(self.rounds, client))


def report(results: Results) -> str:
    """The whole text."""
    sections = {
        "Against the others": f"{_speed(results)}\n\n{_notes(results)}",
        "Where the time goes": _layers(results),
        "Decoding alone": _decoded(results),
        "Ids that wait": _pending(results),
        "A hundred thousand kept": _scale(results),
        "Importing": _imports(results),
    }
    return "\n".join(f"### {title}\n\n{text}\n" for title, text in sections.items() if text)


def _speed(results: Results) -> str:
    rounds = results.rounds
    rows = []
    for client in results.clients:
        kept = results.kept.get(client)
        rows.append(
            (
                CLIENTS[client].title,
                f"{ratio(rounds, client):.2f}",
                f"{median(rounds, client, 'cpu') * 1e6:,.0f}",
                f"{1 / median(rounds, client, 'wall'):,.0f}",
                f"{median(rounds, client, 'peak') / KB**2:.0f}",
                f"{kept['same'] / KB:.1f}" if kept else "–",
                f"{kept['varied'] / KB:.1f}" if kept else "–",
                f"{ratio(rounds, client, figure='single'):.2f}",
                f"{median(rounds, client, 'single') * 1e6:,.0f}",
            )
        )
    head = (
        "client",
        "CPU, × naive",
        "µs",
        "per second",
        "peak MB",
        "KB kept",
        "KB kept, all flows different",
        "one at a time, × naive",
        "µs",
    )
    return _table(head, rows)


def _notes(results: Results) -> str:
    shown = [f"{name} {found}" for name in _SHOWN if (found := _version(name))]
    busiest = max(
        median(results.rounds, client, "server") / median(results.rounds, client, "wall")
        for client in results.clients
    )
    skipped = "".join(
        f" Not measured: {CLIENTS[client].title} ({why})."
        for client, why in results.skipped.items()
    )
    return (
        f"{results.count:,} executions at concurrency 50 from nginx on loopback, replies of "
        f"{results.decoded['body bytes']:,.0f} bytes; rounds: {len(results.rounds)}, each client in a "
        "process of its own. CPU is that of the client's process in user and kernel mode, for an "
        "execution; ratios are medians of same-round ratios, everything else is a median. The "
        f"server's core was busy for at most {100 * busiest:.0f} % of the time. Peak is the "
        "process's resident memory with all results kept, its imports included; KB kept is what one "
        "more result takes of Python's heap, and KB are 1,024 bytes. One at a time is the median "
        f"time of a lookup when nothing else is under way.{skipped}\n\n"
        f"Python {platform.python_version()}, {', '.join(shown)}, {_nginx()}; {_processor()}."
    )


def aims(results: Results) -> str:
    """What this project wants to reach, and how far it is: for those who work on it."""
    rounds, kept = results.rounds, results.kept

    def cpu(client: str, other: str) -> float | None:
        if client in rounds[0] and other in rounds[0]:
            return ratio(rounds, client, other)
        return None

    pending = results.pending.get("batch")
    scale = results.scale.get("hilos")
    mine = kept.get("hilos", {})
    figures: list[tuple[str, float | None, float, str]] = [
        ("CPU against naive aiohttp", cpu("hilos", BASE), 0.75, ""),
        ("the same under uvloop, naive without", cpu("hilos-uvloop", BASE), 0.62, ""),
        ("CPU against aiohttp's `read()`", cpu("hilos", "floor"), 1.10, ""),
        ("CPU against openapi-generator", cpu("hilos", "openapi-generator"), 0.30, ""),
        ("CPU against openai's core on aiohttp", cpu("hilos", "openai-aiohttp"), 0.12, ""),
        ("CPU against openapi-python-client", cpu("hilos", "openapi-python-client"), 0.09, ""),
        ("memory kept, 40 campaigns", _kilobytes(mine.get("same")), 2.0, " KB"),
        ("memory kept, all flows different", _kilobytes(mine.get("varied")), 7.0, " KB"),
        (
            f"memory for a waiting id, {PENDING[-1]:,} ids",
            _kilobytes(pending[-1]["bytes"]) if pending else None,
            0.1,
            " KB",
        ),
        (f"CPU, {MANY:,} kept against {FEW:,}", scale[2] if scale else None, 1.15, ""),
        (
            "one at a time against naive aiohttp",
            ratio(rounds, "hilos", figure="single") if "hilos" in rounds[0] else None,
            1.0,
            "",
        ),
    ]
    rows = [
        (
            name,
            f"{abs(round(found, 2)):.2f}{unit}",
            f"≤ {aim:.2f}{unit}",
            "reached" if round(found, 2) <= aim else "**not reached**",
        )
        for name, found, aim, unit in figures
        if found is not None
    ]
    return _table(("figure", "measured", "aim", ""), rows)


def _kilobytes(count: float | None) -> float | None:
    return None if count is None else count / KB


def _layers(results: Results) -> str:
    rounds = results.rounds
    if not {"hilos", "lean", "floor"} <= rounds[0].keys():
        return ""
    whole = median(rounds, "hilos", "cpu")
    lean = median(rounds, "lean", "cpu")
    kernel = median(rounds, "lean", "kernel")
    decode = results.decoded["hilos_async, in a session"]
    rows = [
        ("the kernel: system calls, loopback", kernel),
        ("asyncio and aiohttp, every useful knob set", lean - kernel),
        ("decoding and checking the reply", decode),
        (
            "retries, deadlines, pace, bounds, collecting; less what receiving saves",
            whole - lean - decode,
        ),
    ]
    cells = [(name, f"{spent * 1e6:.0f}", f"{100 * spent / whole:.0f} %") for name, spent in rows]
    cells.append(("**one execution of a batch**", f"**{whole * 1e6:.0f}**", ""))
    return _table(("part", "µs", "share"), cells)


def _decoded(results: Results) -> str:
    times = {way: spent for way, spent in results.decoded.items() if way != "body bytes"}
    rows = [(way, f"{spent * 1e6:.1f}") for way, spent in sorted(times.items(), key=_second)]
    return _table(("way", "µs for a reply"), rows)


def _pending(results: Results) -> str:
    head = ("ids from a generator", *(f"{n:,}: KB each" for n in PENDING), "CPU before the first")
    rows = [
        (
            title,
            *(f"{max(cost['bytes'], 0) / KB:.2f}" for cost in results.pending[way]),
            f"{max(results.pending[way][-1]['cpu'], 0):.1f} s",
        )
        for title, way in WAYS.items()
        if way in results.pending
    ]
    what = (
        "Memory for each id at the moment when 50 requests are out, and how much CPU time "
        f"{PENDING[-1]:,} ids take until then."
    )
    return f"{_table(head, rows)}\n\n{what}" if rows else ""


def _scale(results: Results) -> str:
    head = ("client", f"{FEW:,} kept: µs", f"{MANY:,} kept: µs", "ratio")
    rows = [
        (CLIENTS[client].title, f"{few * 1e6:.0f}", f"{many * 1e6:.0f}", f"{times:.2f}")
        for client, (few, many, times) in results.scale.items()
    ]
    return _table(head, rows) if rows else ""


def _imports(results: Results) -> str:
    rows = [(name, f"{spent * 1000:.0f}") for name, spent in results.imports.items()]
    return _table(("what", "ms of CPU, beyond starting Python"), rows) if rows else ""


def _second(pair: tuple[str, float]) -> float:
    return pair[1]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(_lines([head, *rows]))


def _lines(cells: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for number, row in enumerate(cells):
        yield f"| {' | '.join(c.ljust(width) for c, width in zip(row, widths, strict=True))} |"
        if number == 0:
            yield f"|{'|'.join('-' * (width + 2) for width in widths)}|"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _nginx() -> str:
    try:
        ran = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False)  # noqa: S607
    except FileNotFoundError:
        return "nginx"
    return ran.stderr.strip().removeprefix("nginx version: ").replace("/", " ")


def _processor() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    return found[1].strip() if found else platform.machine()
