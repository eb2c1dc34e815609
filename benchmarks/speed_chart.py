"""CPU time against naive aiohttp, and below it memory for a kept result: an SVG by hand.

Knows coordinates and colours. Every bar begins at 0, and a shorter one is always better. The picture
stands on a card of its own, readable on light and dark pages.
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

# Narrow, so that a phone of 390 pixels shows no text smaller than 11.
_WIDTH, _EDGE, _FIGURES, _ROW, _HEAD = 460, 16, 92, 38, 62
_PANEL = _WIDTH - 2 * _EDGE - _FIGURES  # the figures stand behind the longest bar
_MORE = 20  # pixels that each line of a heading takes
_STYLE = """
  text { font: 15px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #24292f }
  .title { font-size: 16px; font-weight: 600 }
  .name { stroke: #ffffff; stroke-width: 3px; paint-order: stroke } /* above the grid */
  .own { font-weight: 600 }
  .quiet { font-size: 14.5px; fill: #57606a }
  .card { fill: #ffffff; stroke: #d0d7de }
  .grid { stroke: #d8dee4 }
  .bar { fill: #a8b3bf }
  .bar.own { fill: #2f7fd0 }
  .more { fill: #d5dbe1 }
  .more.own { fill: #9cc6ee }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .quiet { fill: #9aa4af }
    .name { stroke: #0d1117 }
    .card { fill: #0d1117; stroke: #30363d }
    .grid { stroke: #30363d }
    .bar { fill: #6e7a87 }
    .bar.own { fill: #4393d8 }
    .more { fill: #3b444e }
    .more.own { fill: #24527c }
  }
"""


def draw(results: Results) -> str:
    """The picture of one run."""
    times = {client: [ratio(results.rounds, client)] for client in results.clients}
    kept = {
        client: [results.kept[client][name] / KB for name in ("same", "varied")]
        for client in results.clients
        if client in results.kept
    }
    panel = _HEAD + 2 * _MORE + _ROW * len(results.clients)
    height = 40 + 2 * panel
    what = "What one execution costs, by client"
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="what">',
            f'<title id="what">{what}</title>',
            f"<style>{_STYLE}</style>",
            f'<rect class="card" x=".5" y=".5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>',
            _text(_EDGE, 30, what, "title"),
            *_draw_panel(
                40, results, times, "CPU time, × naive aiohttp: shorter is better", "", "{:.2f}"
            ),
            *_draw_panel(
                40 + panel,
                results,
                kept,
                "KB of memory for a kept result: shorter is better",
                "strong: 40 campaigns; weak: every flow another",
                "{:.1f}",
            ),
            "</svg>",
            "",
        ]
    )


def _draw_panel(
    y: float,
    results: Results,
    figures: dict[str, list[float]],
    title: str,
    key: str,
    form: str,
) -> Iterator[str]:
    """One bar for each client, the paler one behind it; all begin at 0 and end within the axis."""
    most = max(max(values) for values in figures.values())
    step = next(step for step in (0.5, 1, 2, 5, 10, 20, 50, 100) if most / step <= 6)
    most = step * math.ceil(most / step)
    yield _text(_EDGE, y + 24, title)
    yield _text(_EDGE, y + 24 + _MORE, key, "quiet") if key else ""
    top = y + _HEAD
    bottom = top + _ROW * len(results.clients)
    for number in range(round(most / step) + 1):
        x = _EDGE + _PANEL * number * step / most
        yield f'<path class="grid" d="M{x:.1f} {top}V{bottom}"/>'
        anchor = "middle" if number else "start"
        yield _text(x, bottom + 16, f"{number * step:g}", "quiet", anchor)
    for row, client in enumerate(results.clients):
        yield from _draw_row(top + row * _ROW, client, figures.get(client), most, form)


def _draw_row(
    y: float, client: str, values: list[float] | None, most: float, form: str
) -> Iterator[str]:
    own = " own" if client.startswith("hilos") else ""
    title = CLIENTS[client].title.replace("*", "").replace("`", "")
    yield _text(_EDGE, y + 16, title, f"name{own}")
    if values is None:
        yield _text(_EDGE + 5, y + 33, "keeps nothing", "quiet")
        return
    longest = max(values)
    if len(values) > 1:
        yield _bar(f"more{own}", y + 22, longest / most)
    yield _bar(f"bar{own}", y + 22, values[0] / most)
    said = " / ".join(dict.fromkeys(form.format(value) for value in values))
    yield _text(_EDGE + longest / most * _PANEL + 6, y + 33, said, f"name{own}")


def _bar(kind: str, y: float, share: float) -> str:
    size = f'width="{share * _PANEL:.1f}" height="12" rx="2"'
    return f'<rect class="{kind}" x="{_EDGE}" y="{y:.1f}" {size}/>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    kind = f' class="{kind}"' if kind else ""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}"{kind}{where}>{escape(text)}</text>'
