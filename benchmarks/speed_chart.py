"""CPU time against naive aiohttp and memory for a kept result, side by side: an SVG by hand.

Knows coordinates and colours. A ratio is drawn from 1 on a logarithmic axis, so that half and twice
are the same length. The picture stands on a card of its own, readable on light and dark pages.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from benchmarks.speed_clients import CLIENTS
from benchmarks.speed_measure import ratio
from benchmarks.speed_report import KB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.speed_report import Results

_NAMES, _PANEL, _GAP, _ROW, _TOP = 316, 300, 46, 26, 84
_WIDTH = 16 + _NAMES + 2 * _PANEL + _GAP + 44
_LEAST, _MOST = 0.2, 16.0
_TICKS = (0.25, 0.5, 1, 2, 4, 8, 16)
_STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #24292f }
  .title { font-size: 15px; font-weight: 600 }
  .own { font-weight: 600 }
  .quiet { font-size: 11.5px; fill: #57606a }
  .card { fill: #ffffff; stroke: #d0d7de }
  .grid { stroke: #d8dee4 }
  .naive { stroke: #24292f; stroke-width: 1.5 }
  .bar { fill: #a8b3bf }
  .bar.own { fill: #2f7fd0 }
  .more { fill: #d5dbe1 }
  .more.own { fill: #9cc6ee }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .quiet { fill: #9aa4af }
    .card { fill: #0d1117; stroke: #30363d }
    .grid { stroke: #30363d }
    .naive { stroke: #e6edf3 }
    .bar { fill: #6e7a87 }
    .bar.own { fill: #4393d8 }
    .more { fill: #3b444e }
    .more.own { fill: #24527c }
  }
"""


def draw(results: Results) -> str:
    """The picture of one run."""
    clients = results.clients
    bottom = _TOP + _ROW * len(clients)
    height = bottom + 40
    what = "What one execution costs, by the client that fetches it"
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    left, right = 16 + _NAMES, 16 + _NAMES + _PANEL + _GAP
    most = max(value for kept in results.kept.values() for value in kept.values()) / KB
    step = 5 if most > 12 else 2
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="what">',
        f'<title id="what">{what}</title>',
        f"<style>{_STYLE}</style>",
        f'<rect class="card" x=".5" y=".5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>',
        _text(16, 28, what, "title"),
        _text(left, 56, "CPU time, × naive aiohttp"),
        _text(right, 56, "KB of memory for a kept result"),
        _text(right, 72, "40 campaigns; paler: every flow another", "quiet"),
        _text(left, 72, "each step of the axis is twice the one before", "quiet"),
    ]
    for tick in _TICKS:
        kind = "naive" if tick == 1 else "grid"
        lines.append(_line(left + _at(tick), bottom, kind))
        lines.append(_text(left + _at(tick), bottom + 16, f"{tick:g}", "quiet", "middle"))
    for tick in range(0, math.ceil(most) + 1, step):
        x = right + tick / most * _PANEL
        lines.append(_line(x, bottom, "grid"))
        lines.append(_text(x, bottom + 16, str(tick), "quiet", "middle"))
    for row, client in enumerate(clients):
        lines += _row(results, client, _TOP + row * _ROW, most)
    return "\n".join([*lines, "</svg>", ""])


def _row(results: Results, client: str, y: float, most: float) -> Iterator[str]:
    own = " own" if client.startswith("hilos") else ""
    left, right = 16 + _NAMES, 16 + _NAMES + _PANEL + _GAP
    title = CLIENTS[client].title.replace("*", "").replace("`", "")
    yield _text(left - 12, y + 17, title, own.strip(), "end")
    times = ratio(results.rounds, client)
    start, end = sorted((_at(1), _at(times)))
    yield _bar(f"bar{own}", left + start, y + 5, end - start)
    outside, anchor = (end + 5, "start") if times >= 1 else (start - 5, "end")
    if start < 34 and times < 1:  # no room between the end of the bar and the names
        outside, anchor = _at(1) + 5, "start"
    yield _text(left + outside, y + 17, f"{times:.2f}", "quiet", anchor)
    if client not in results.kept:
        yield _text(right + 5, y + 17, "keeps nothing", "quiet")
        return
    same, varied = (results.kept[client][name] / KB for name in ("same", "varied"))
    yield _bar(f"more{own}", right, y + 5, max(same, varied) / most * _PANEL)
    yield _bar(f"bar{own}", right, y + 5, same / most * _PANEL)
    figures = f"{same:.1f}" if f"{same:.1f}" == f"{varied:.1f}" else f"{same:.1f} / {varied:.1f}"
    yield _text(right + max(same, varied) / most * _PANEL + 5, y + 17, figures, "quiet")


def _at(times: float) -> float:
    times = min(max(times, _LEAST), _MOST)
    return _PANEL * math.log(times / _LEAST) / math.log(_MOST / _LEAST)


def _bar(kind: str, x: float, y: float, width: float) -> str:
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="16" rx="2"/>'


def _line(x: float, bottom: float, kind: str) -> str:
    return f'<path class="{kind}" d="M{x:.1f} {_TOP}V{bottom}"/>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    kind = f' class="{kind}"' if kind else ""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}"{kind}{where}>{escape(text)}</text>'
