"""The kinds of cases: how each is played, and the figures that come of it.

A figure of ours is the worst of all seeds, a peer's is its median.
"""

from __future__ import annotations

import asyncio
import functools
import random
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.pace_sim import world
from benchmarks.pace_sim.clients import BotocoreAdaptive, FullJitter, Stainless, knowing, learning
from hilos_async import RateLimit
from hilos_async._pace.known import KnownPacer
from hilos_async._pace.learning import LearningPacer
from hilos_async._pace.pacer import Reply
from hilos_async._wire.call import Caller
from tests import virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.pace_sim.world import Client, Outcome, Scene

    MakeClient = Callable[[Callable[[], float]], Client]

PEERS: dict[str, MakeClient] = {
    "full jitter": FullJitter,
    "Stainless style": Stainless,
    "botocore adaptive": BotocoreAdaptive,
}


@dataclass(frozen=True)
class Figure:
    """One measured number beside its aim; ``None``: reported without one."""

    name: str
    unit: str
    value: float
    aim: float | None = None
    at_most: bool = True

    @property
    def reached(self) -> bool | None:
        """Whether the aim is reached, if there is one."""
        if self.aim is None:
            return None
        return self.value <= self.aim if self.at_most else self.value >= self.aim

    def __str__(self) -> str:
        return f"{self.value:.{_digits(self.value, self.unit)}f}{self.unit}"

    @property
    def aimed(self) -> str:
        """The aim in words."""
        if self.aim is None:
            return "–"
        return f"{'≤' if self.at_most else '≥'} {self.aim:g}{self.unit}"


@dataclass(frozen=True)
class Row:
    """A case that was played."""

    name: str
    figures: list[Figure]
    peers: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True)
class Paced:
    """A case of goodput and refusals."""

    name: str
    scene: Scene
    known: RateLimit | None = None  # what the library is told; None: it learns
    goodput: float | None = None  # aims
    refusals: float | None = None
    rival: float | None = None
    quick: bool = False

    def play(self, seeds: Sequence[int]) -> Row:
        """Play it once for each seed, with the library and with the peers."""
        make = functools.partial(knowing, self.known) if self.known else learning
        ours = [world.play(self.scene, make, seed) for seed in seeds]
        figures = [
            Figure("goodput", " %", min(map(_goodput, ours)), self.goodput, at_most=False),
            Figure("refusals", "", max(one.refusals for one in ours), self.refusals),
        ]
        if self.scene.rival:
            share = min(100 * (one.rival_share or 0.0) for one in ours)
            figures.append(Figure("rival's success", " %", share, self.rival, at_most=False))
        if self.scene.processes > 1:
            spread = max(100 * (max(one.finished) / min(one.finished) - 1) for one in ours)
            figures.append(Figure("finish times within", " %", spread))
        peers = {
            name: _peer([world.play(self.scene, make_peer, seed) for seed in seeds])
            for name, make_peer in PEERS.items()
        }
        return Row(self.name, figures, peers)


@dataclass(frozen=True, kw_only=True)
class Unlimited:
    """What learning costs where there is nothing to learn."""

    name: str
    scene: Scene
    longer: float | None = None
    quick: bool = False

    def play(self, seeds: Sequence[int]) -> Row:
        """Play it with ``pace="learn"`` and with ``pace="off"``."""
        off = functools.partial(knowing, None)
        longer = [
            world.play(self.scene, learning, seed).elapsed
            / world.play(self.scene, off, seed).elapsed
            for seed in seeds
        ]
        figure = Figure("longer than pace=off", " %", 100 * (max(longer) - 1), self.longer)
        return Row(self.name, [figure])


@dataclass(frozen=True, kw_only=True)
class Single:
    """How long single lookups wait while a batch runs, in slots of the limit."""

    name: str
    limit: RateLimit
    scene: Scene
    slots: float
    quick: bool = False

    def play(self, seeds: Sequence[int]) -> Row:
        """Play it; the figure is the longest wait of all."""
        waits = [wait for seed in seeds for wait in self._waits(seed)]
        slots = [wait * self.limit.rate for wait in waits]
        figures = [
            Figure("longest wait", " slots", max(slots), self.slots),
            Figure("median", " slots", statistics.median(slots)),
        ]
        return Row(self.name, figures)

    def _waits(self, seed: int) -> list[float]:
        random.seed(seed)
        chance = random.Random(seed)

        async def main(clock: Callable[[], float]) -> list[float]:
            server = world.Server(self.scene, clock, chance)
            client = knowing(self.limit, clock)
            batch = asyncio.create_task(world.run_process(self.scene.lookups, client, server))
            waits: list[float] = []
            while True:
                await asyncio.sleep(chance.uniform(5, 10))
                if batch.done():
                    return waits
                waits.append(await client.ask(server, Caller(is_batch=False)))

        return virtual_time.run(main)


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """What a local reservation costs when nobody else wants one, in real time."""

    name: str
    microseconds: float
    quick: bool = True

    def play(self, _seeds: Sequence[int]) -> Row:
        """Time each ``reserve()`` of many, on a clock by which every slot is free at once."""
        known = _reservation(lambda clock: KnownPacer(RateLimit(5), clock=clock))
        learnt = _reservation(lambda clock: LearningPacer(clock=clock))
        figures = [
            Figure("known limit, median", " µs", known, self.microseconds),
            Figure("learning, median", " µs", learnt, self.microseconds),
        ]
        return Row(self.name, figures)


Case = Paced | Unlimited | Single | Reservation


def _reservation(make_pacer: Callable[[Callable[[], float]], KnownPacer | LearningPacer]) -> float:
    now = 1_000.0
    pacer = make_pacer(lambda: now)

    async def main() -> list[int]:
        nonlocal now
        took: list[int] = []
        for _ in range(20_000):
            now += 1.0
            began = time.perf_counter_ns()
            at = await pacer.reserve()
            took.append(time.perf_counter_ns() - began)
            pacer.sent(at)
            pacer.report(Reply("accepted", at, at + 0.06))
        return took

    return statistics.median(asyncio.run(main())) / 1000


def _goodput(outcome: Outcome) -> float:
    return 100 * (outcome.goodput or 0.0)


def _peer(outcomes: list[Outcome]) -> str:
    lost = statistics.median(one.lost for one in outcomes)
    refusals = statistics.median(one.refusals for one in outcomes)
    lookups = outcomes[0].scene.lookups * outcomes[0].scene.processes
    if lost >= 0.01 * lookups:
        return f"{lost:,.0f} lost"
    text = f"{statistics.median(map(_goodput, outcomes)):.0f} % / {refusals:,.0f}"
    if outcomes[0].rival:
        share = statistics.median(one.rival_share or 0.0 for one in outcomes)
        text += f", rival {100 * share:.0f} %"
    return f"{text}, {lost:,.0f} lost" if lost else text


def _digits(value: float, unit: str) -> int:
    return 2 if abs(value) < 10 and unit != " %" else 1
