"""Requests per second against the limit, as small multiples: a row for each client, an SVG by hand.

Knows coordinates and colours. The picture stands on a card of its own, light or dark as the reader's
system is, so that it is readable on any page.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from benchmarks.pace_sim import world
from benchmarks.pace_sim.clients import learning
from benchmarks.pace_sim.kinds import PEERS
from benchmarks.pace_sim.world import Scene
from hilos_async.testing import FakeLimit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.pace_sim.world import Outcome

_CLIENTS = {'hilos_async, pace="learn"': learning, **PEERS}
_FIFTY, _TWENTY = FakeLimit(50, retry_after=1), FakeLimit(20, retry_after=1)
_SCENES = {
    "50 per second, which no client is told": Scene(lookups=2_000, limit=_FIFTY),
    "50 per second, and 20 after 20 s": Scene(
        lookups=2_000, limit=_FIFTY, later=_TWENTY, later_at=20.0
    ),
}
_SECONDS, _EVERY = 130, 20  # the axes and their ticks
_REQUESTS, _LEVELS = 160, (0, 50, 100, 150)
# Narrow, so that a phone of 390 pixels shows no text smaller than 11.
_WIDTH, _WIDE, _HIGH = 460, 392, 100  # the picture, and one panel
_LEFT, _TOP, _HEAD, _ROW = 52, 70, 40, 168
_STYLE = """
  text { font: 15px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #24292f }
  .title { font-size: 16px; font-weight: 600 }
  .client { font-weight: 600 }
  .quiet { font-size: 14.5px; fill: #57606a }
  .card { fill: #ffffff; stroke: #d0d7de }
  .grid { stroke: #d8dee4; fill: none }
  .limit { stroke: #24292f; stroke-width: 1.5; stroke-dasharray: 5 3; fill: none }
  .accepted { fill: #4393d8 }
  .refused { fill: #e8702a }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .quiet { fill: #9aa4af }
    .card { fill: #0d1117; stroke: #30363d }
    .grid { stroke: #30363d }
    .limit { stroke: #e6edf3 }
    .accepted { fill: #3a80c4 }
    .refused { fill: #f0883e }
  }
"""


def draw(seed: int) -> str:
    """Play the scenes of the picture and draw them."""
    column = _HEAD + _ROW * len(_CLIENTS)  # all clients in one scene
    height = _TOP + len(_SCENES) * column + 8
    what = "Requests per second, beside the limit"
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="what">',
        f'<title id="what">{what}, for {escape(", ".join(_CLIENTS))}</title>',
        f"<style>{_STYLE}</style>",
        f'<rect class="card" x=".5" y=".5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>',
        _text(16, 28, what, "title"),
        *_legend(),
    ]
    for place, (title, scene) in enumerate(_SCENES.items()):
        top = _TOP + place * column
        lines.append(_text(16, top + 24, title, "title"))
        for row, (name, make_client) in enumerate(_CLIENTS.items()):
            outcome = world.play(scene, make_client, seed)
            lines += _panel(_LEFT, top + _HEAD + row * _ROW + 42, outcome, name)
    return "\n".join([*lines, "</svg>", ""])


def _legend() -> Iterator[str]:
    x = 16
    for kind, wide in (("accepted", 98), ("refused", 90)):
        yield f'<rect class="{kind}" x="{x}" y="41" width="12" height="12" rx="2"/>'
        yield _text(x + 18, 51, kind, "quiet")
        x += wide
    yield f'<path class="limit" d="M{x} 47h24"/>'
    yield _text(x + 30, 51, "what the server allows", "quiet")


def _panel(x: float, y: float, outcome: Outcome, name: str) -> Iterator[str]:
    sent = Counter(int(arrival.at) for arrival in outcome.arrivals)
    accepted = Counter(int(arrival.at) for arrival in outcome.arrivals if arrival.accepted)
    yield _text(16, y - 27, name, "client")
    yield _text(16, y - 9, _result(outcome), "quiet")
    for level in _LEVELS:
        yield f'<path class="grid" d="M{x} {_y(y, level)}h{_WIDE}"/>'
        yield _text(x - 6, _height(y, level) + 5, str(level), "quiet", "end")
    for second in range(0, _SECONDS + 1, _EVERY):
        unit = " s" if second == _SECONDS // _EVERY * _EVERY else ""
        yield _text(_at(x, second), y + _HIGH + 17, f"{second}{unit}", "quiet", "middle")
    yield f'<path class="refused" d="{_steps(x, y, sent)}"/>'
    yield f'<path class="accepted" d="{_steps(x, y, accepted)}"/>'
    yield f'<path class="limit" d="{_limit(x, y, outcome.scene)}"/>'


def _result(outcome: Outcome) -> str:
    lost = f", {outcome.lost:,} lost" if outcome.lost else ""
    return f"{outcome.elapsed:.0f} s, {outcome.refused:,} refused{lost}"


def _steps(x: float, y: float, counts: Counter[int]) -> str:
    last = min(_SECONDS, max(counts) + 1)
    bars = "".join(
        f"V{_y(y, min(counts[second], _REQUESTS))}H{_x(x, second + 1)}" for second in range(last)
    )
    return f"M{_x(x, 0)} {_y(y, 0)}{bars}V{_y(y, 0)}Z"


def _limit(x: float, y: float, scene: Scene) -> str:
    levels = [(0.0, scene.limit), (scene.later_at, scene.later), (float(_SECONDS), None)]
    known = [(at, limit) for at, limit in levels if limit or at == _SECONDS]
    path = ""
    for (start, limit), (end, _) in pairwise(known):
        assert limit
        path += f"{'V' if path else f'M{_x(x, start)} '}{_y(y, limit.requests)}H{_x(x, end)}"
    return path


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    kind = f' class="{kind}"' if kind else ""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:g}" y="{y:g}"{kind}{where}>{escape(text)}</text>'


def _x(x: float, second: float) -> str:
    return f"{_at(x, second):g}"


def _at(x: float, second: float) -> float:
    return x + second * _WIDE / _SECONDS


def _y(y: float, requests: float) -> str:
    return f"{_height(y, requests):g}"


def _height(y: float, requests: float) -> float:
    return y + _HIGH * (1 - requests / _REQUESTS)
