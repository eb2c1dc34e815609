"""The guard: has this commit become slower or larger than what was last accepted?

Instructions under callgrind where valgrind is installed: the same to half a percent from run to run,
whatever else the machine does. Beside them CPU time, which also sees the kernel and the caches, with
a tolerance that its noise needs. All are ratios to naive aiohttp in the same run, or bytes.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.speed_measure import BASE, ratio, say, speeds

if TYPE_CHECKING:
    from benchmarks.speed_measure import Order

ACCEPTED = Path(__file__).parent / "accepted.json"
COUNTS = (100, 600)  # the difference is without start, imports and warming up
ROUNDS, COUNT = 7, 1_500
# How much worse, in percent, is still the same: about four times what runs of one commit differ by.
TOLERANCE = {
    "instructions, × naive": 2.0,
    "CPU, × naive": 10.0,
    "bytes kept, 40 campaigns": 3.0,
    "bytes kept, all flows different": 3.0,
}


def check(order: Order, *, accept: bool) -> int:
    """Measure and compare; 1 if a figure is worse. ``accept`` writes the figures instead."""
    figures = _figures(order)
    setting = {
        "python": platform.python_version(),
        **{name: version(name) for name in ("aiohttp", "msgspec", "anyio")},
    }
    if accept:
        content = {"setting": setting, "figures": figures}
        ACCEPTED.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
        say(f"written: {ACCEPTED}")
        for name, figure in figures.items():
            print(f"{name:32} {figure:10.4g}")
        return 0
    if not ACCEPTED.exists():
        say(f"nothing to compare with: {ACCEPTED} is missing; --accept writes it")
        return 2
    accepted = json.loads(ACCEPTED.read_text(encoding="utf-8"))
    if accepted["setting"] != setting:
        say(f"accepted under {accepted['setting']}, this is {setting}: the ratios may differ")
    return int(compare(accepted["figures"], figures))


def compare(accepted: dict[str, float], figures: dict[str, float]) -> bool:
    """Print both, line by line; whether one is worse by more than its tolerance."""
    worse = False
    for name, tolerance in TOLERANCE.items():
        if name not in figures or name not in accepted:
            print(f"{name:32} not compared: valgrind is missing, here or when it was accepted")
            continue
        change = 100 * (figures[name] / accepted[name] - 1)
        verdict = "worse" if change > tolerance else "better" if change < -tolerance else "same"
        worse |= verdict == "worse"
        print(
            f"{name:32} {figures[name]:10.4g}  accepted {accepted[name]:10.4g}  "
            f"{change:+6.1f} % (tolerance {tolerance:g} %)  {verdict}"
        )
    return worse


def _figures(order: Order) -> dict[str, float]:
    figures: dict[str, float] = {}
    if valgrind := shutil.which("valgrind"):
        figures["instructions, × naive"] = _instructions(order, valgrind)
    else:
        say("valgrind is not installed: instructions are not counted (apt-get install valgrind)")
    rounds = speeds(order, ("hilos", BASE), COUNT, ROUNDS, singles=0)
    figures["CPU, × naive"] = ratio(rounds, "hilos")
    accounts = {"40 campaigns": order.server.same, "all flows different": order.server.varied}
    for name, url in accounts.items():
        found = order.measure("memory", "hilos", base_url=url, count=2_000)
        figures[f"bytes kept, {name}"] = found["kept"]
    return figures


def _instructions(order: Order, valgrind: str) -> float:
    """Instructions for an execution, by those of naive aiohttp."""

    def counted(client: str, count: int) -> int:
        spec: dict[str, Any] = {"task": "speed", "client": client, "base_url": order.server.same}
        spec |= {"warm_up": COUNTS[0], "count": count}
        command = [valgrind, "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable]
        ran = subprocess.run(
            [*command, "-m", "benchmarks.speed_clients", json.dumps(spec)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONHASHSEED": "0"},
            check=False,
        )
        found = re.search(r"Collected : (\d+)", ran.stderr)
        if ran.returncode or found is None:
            raise SystemExit(f"{client} failed under valgrind:\n{ran.stderr[-2_000:]}")
        return int(found[1])

    runs: list[tuple[str, int]] = [(client, n) for client in ("hilos", BASE) for n in COUNTS]
    # Counts do not mind company: two at a time.
    with ThreadPoolExecutor(2) as pool:
        counts: dict[Any, int] = dict(
            zip(runs, pool.map(lambda run: counted(*run), runs), strict=True)
        )
    few, many = COUNTS
    each = {
        client: (counts[client, many] - counts[client, few]) / (many - few)
        for client in ("hilos", BASE)
    }
    say(f"instructions for an execution: {each['hilos']:,.0f}, naive {each[BASE]:,.0f}")
    return each["hilos"] / each[BASE]
