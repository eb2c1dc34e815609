"""The rounds: every client in a process of its own, one after the other, round after round.

Knows orders and figures. Refuses to know tables and pictures. Ratios are taken within a round, so
that what else the machine does meanwhile falls on both sides.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.speed_clients import CLIENTS
from benchmarks.speed_clients.pending import WAYS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.static_server import StaticServer

BASE = "naive"
WARM_UP = 300
SINGLES = 1_000
KEPT = 2_000  # results of which the memory is taken
PENDING = (1_000, 10_000, 100_000)
FEW, MANY, SCALE_ROUNDS = 1_000, 100_000, 3
IMPORTS = {
    "aiohttp": "aiohttp",
    "the four packages of hilos_async": "aiohttp, msgspec, tenacity, anyio",
    "hilos_async": "hilos_async",
    "httpx": "httpx",
    "pyreqwest": "pyreqwest.client",
    "pydantic": "pydantic",
    "openai": "openai",
}
IMPORT_ROUNDS = 9


class Cores(NamedTuple):
    """Where client and server run; the same where the machine has only one."""

    client: int
    server: int

    @classmethod
    def of_this_machine(cls) -> Cores:
        """The first and the last core that this process may use."""
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[0], usable[-1])


class Order(NamedTuple):
    """What all measurements of a run have in common."""

    server: StaticServer
    cores: Cores
    generated: str = ""  # where the generated clients are

    def measure(self, task: str, client: str, **more: Any) -> dict[str, float]:
        """What a new process found."""
        order = {
            "task": task,
            "client": client,
            "base_url": self.server.same,
            "core": self.cores.client,
            "path": self.generated,
            "warm_up": WARM_UP,
        }
        spec = json.dumps(order | more)
        command = [sys.executable, "-m", "benchmarks.speed_clients", spec]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if ran.returncode:
            raise SystemExit(f"{client} failed at {task}; it says why above")
        found: dict[str, float] = json.loads(ran.stdout)
        return found


Rounds = list[dict[str, dict[str, float]]]


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def median(rounds: Rounds, client: str, figure: str) -> float:
    """The median over the rounds."""
    return statistics.median(found[client][figure] for found in rounds)


def ratio(rounds: Rounds, client: str, other: str = BASE, figure: str = "cpu") -> float:
    """The median of the ratios within each round."""
    return statistics.median(found[client][figure] / found[other][figure] for found in rounds)


def speeds(
    order: Order, clients: Iterable[str], count: int, rounds: int, *, singles: int = SINGLES
) -> Rounds:
    """CPU, wall time, peak and latency of every client, in each round."""
    clients = list(clients)
    done: Rounds = []
    for number in range(rounds):
        found: dict[str, dict[str, float]] = {}
        for client in clients if number % 2 == 0 else reversed(clients):
            busy = order.server.cpu()
            speed = order.measure("speed", client, count=count, singles=singles)
            requests = WARM_UP + count + singles
            speed["server"] = (order.server.cpu() - busy) / requests
            found[client] = speed
            say(f"round {number + 1}/{rounds}: {client} {speed['cpu'] * 1e6:,.0f} µs")
        done.append(found)
    return done


def kept(order: Order, clients: Iterable[str]) -> dict[str, dict[str, float]]:
    """Bytes for each kept result, of 40 campaigns and where every flow is another."""
    found: dict[str, dict[str, float]] = {}
    accounts = {"same": order.server.same, "varied": order.server.varied}
    for client in clients:
        if CLIENTS[client].keeps:
            found[client] = {
                name: order.measure("memory", client, base_url=url, count=KEPT)["kept"]
                for name, url in accounts.items()
            }
            same, varied = found[client].values()
            say(f"memory: {client} {same / 1024:.1f} KB, all flows different {varied / 1024:.1f}")
    return found


def pending(order: Order) -> dict[str, list[dict[str, float]]]:
    """What waiting ids cost, for each way to ask and each count."""
    found: dict[str, list[dict[str, float]]] = {}
    for way in WAYS.values():
        for count in PENDING:
            cost = order.measure("pending", way, count=count)
            found.setdefault(way, []).append(cost)
            say(f"pending: {way}, {count:,} ids: {cost['bytes'] / 1024:.2f} KB each")
    return found


def scale(order: Order) -> dict[str, tuple[float, float, float]]:
    """CPU per execution with few and with many kept, and the median of their ratios."""
    found: dict[str, tuple[float, float, float]] = {}
    for client in ("hilos", BASE):
        pairs: list[tuple[float, float]] = []
        for number in range(SCALE_ROUNDS):
            few = statistics.median(
                order.measure("speed", client, count=FEW)["cpu"] for _ in range(3)
            )
            pairs.append((few, order.measure("speed", client, count=MANY)["cpu"]))
            say(f"{MANY:,} kept, round {number + 1}/{SCALE_ROUNDS}: {client} {pairs[-1]}")
        found[client] = (
            statistics.median(few for few, _ in pairs),
            statistics.median(many for _, many in pairs),
            statistics.median(many / few for few, many in pairs),
        )
    return found


def imports() -> dict[str, float]:
    """CPU seconds to import, beyond those to start the interpreter."""
    times: dict[str, list[float]] = {}
    known = {
        title: modules
        for title, modules in IMPORTS.items()
        if _cpu_of(f"import {modules}") is not None
    }
    for number in range(IMPORT_ROUNDS):
        bare = _cpu_of("pass") or 0.0
        for title, modules in known.items():
            times.setdefault(title, []).append((_cpu_of(f"import {modules}") or 0.0) - bare)
        say(f"imports, round {number + 1}/{IMPORT_ROUNDS}")
    return {title: statistics.median(spent) for title, spent in times.items()}


def _cpu_of(statement: str) -> float | None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = subprocess.run([sys.executable, "-c", statement], stderr=subprocess.DEVNULL, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ran.returncode:
        return None
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
