"""One run: a server that keeps a limit, the way to it, a rival, and the clients that ask it.

Knows virtual time, latency and counts. Refuses to know how a client paces itself or tries again.
"""

from __future__ import annotations

import asyncio
import functools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from multidict import CIMultiDict

from hilos_async._pace.fields import read_quota
from tests import virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hilos_async._pace.pacer import Quota
    from hilos_async.testing import FakeLimit

_OVERTAKES = 0.005  # seconds that a thread may take until it asks the limiter
CONCURRENCY = 50  # lookups that each client works on at once: the session's own default


@dataclass(frozen=True)
class Latency:
    """The way to the server: each way is ``half`` seconds, and ``jitter`` more on average.

    The jitter is exponential and drawn for each request, so requests overtake each other.
    """

    half: float = 0.030
    jitter: float = 0.003


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What there is to do, and the server that it is asked of."""

    lookups: int  # for each process
    limit: FakeLimit | None
    later: FakeLimit | None = None  # the limit from ``later_at`` seconds on
    later_at: float = 0.0
    rival: float = 0.0  # requests per second of somebody else, who never waits for anything
    processes: int = 1  # they share the limit, and know nothing of each other
    latency: Latency = Latency()
    # A pool of so many threads answers: each request waits for one, is judged some time after it was
    # taken, and takes work that is drawn; so requests overtake each other. 0: at once and in order.
    threads: int = 0
    work: float = 0.0  # seconds at most, half of it at least
    begins: float = 0.0  # seconds of the limiter's first window that are over by then

    @property
    def best(self) -> float | None:
        """Seconds in which the limit, and the rival, let all of it through at an even rate."""
        if self.limit is None:
            return None
        lookups = self.lookups * self.processes
        before = self.later_at * _rate(self.limit) if self.later else lookups
        rest = (lookups - before) / _rate(self.later) if self.later else 0.0
        return before / (_rate(self.limit) - self.rival) + rest


class Answer(NamedTuple):
    """What the server said."""

    ok: bool
    retry_after: float | None = None
    quota: Quota | None = None


class Arrival(NamedTuple):
    """A request of a client, not of the rival, as the server saw it; seconds from the beginning."""

    at: float
    accepted: bool


class Client(Protocol):
    """One process that looks things up."""

    async def lookup(self, server: Server) -> bool:
        """Ask until it is answered; ``False`` if it is given up."""
        ...


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run went."""

    scene: Scene
    elapsed: float
    finished: list[float]  # when each process was done
    lost: int
    arrivals: list[Arrival]
    rival: list[bool]  # whether each of the rival's requests was accepted

    @property
    def succeeded(self) -> int:
        """Lookups that were answered."""
        return self.scene.lookups * self.scene.processes - self.lost

    @property
    def refused(self) -> int:
        """Requests that the server refused, without the rival's."""
        return sum(not arrival.accepted for arrival in self.arrivals)

    @property
    def refusals(self) -> float:
        """Refusals per 1,000 lookups that were answered."""
        return 1000 * self.refused / max(1, self.succeeded)

    @property
    def goodput(self) -> float | None:
        """The best possible time for what was answered, by the time that it took."""
        best = self.scene.best
        if best is None:
            return None
        return best / self.elapsed * self.succeeded / (self.succeeded + self.lost)

    @property
    def rival_share(self) -> float | None:
        """The share of the rival's requests that was accepted."""
        return sum(self.rival) / len(self.rival) if self.rival else None


class Server:
    """A server at the end of a way, which keeps one limit."""

    def __init__(self, scene: Scene, clock: Callable[[], float], chance: random.Random) -> None:
        self.arrivals: list[Arrival] = []
        self.rival: list[bool] = []
        self.clock = clock
        self._scene = scene
        self._limiter = scene.limit.start() if scene.limit else None
        self._chance = chance
        self._threads = asyncio.Semaphore(scene.threads) if scene.threads else None
        self._start = clock()

    async def ask(self) -> Answer:
        """Send one request and wait for its reply."""
        await self._travel()
        if self._threads is None:
            answer = self._take()
        else:
            async with self._threads:
                await asyncio.sleep(self._chance.uniform(0.0, _OVERTAKES))
                answer = self._take()
                if answer.ok:
                    await asyncio.sleep(self._chance.uniform(0.5, 1.0) * self._scene.work)
        await self._travel()
        return answer

    def _take(self) -> Answer:
        answer = self._judge()
        self.arrivals.append(Arrival(self.clock() - self._start, answer.ok))
        return answer

    async def go_on(self) -> None:
        """Live beside the clients: the limit changes, the rival asks."""
        async with asyncio.TaskGroup() as tasks:
            if self._scene.later:
                tasks.create_task(self._change(self._scene.later))
            if self._scene.rival:
                tasks.create_task(self._be_rival(self._scene.rival))

    async def _travel(self) -> None:
        latency = self._scene.latency
        await asyncio.sleep(latency.half + self._chance.expovariate(1 / latency.jitter))

    def _judge(self) -> Answer:
        if self._limiter is None:
            return Answer(ok=True)
        now = self.clock()
        wait = self._limiter.ask(now)
        quota = read_quota(CIMultiDict(self._limiter.headers(now, epoch=now)))
        if wait is None:
            return Answer(ok=True, quota=quota)
        told = self._limiter.limit.advice(wait)
        return Answer(ok=False, retry_after=float(told) if told else None, quota=quota)

    async def _change(self, later: FakeLimit) -> None:
        await asyncio.sleep(self._scene.later_at)
        if self._limiter:
            self._limiter.change(later)

    async def _be_rival(self, rate: float) -> None:
        while True:
            await asyncio.sleep(self._chance.uniform(0.8, 1.2) / rate)
            self.rival.append(self._judge().ok)


def play(scene: Scene, make_client: Callable[[Callable[[], float]], Client], seed: int) -> Outcome:
    """Run a scene in virtual time. The seed is all that chance there is comes from."""
    random.seed(seed)  # the library's own spread, and tenacity's
    return virtual_time.run(functools.partial(_play, scene, make_client, random.Random(seed)))


async def _play(
    scene: Scene,
    make_client: Callable[[Callable[[], float]], Client],
    chance: random.Random,
    clock: Callable[[], float],
) -> Outcome:
    await asyncio.sleep(scene.begins)
    server, start = Server(scene, clock, chance), clock()
    world = asyncio.create_task(server.go_on())
    processes = (
        run_process(scene.lookups, make_client(clock), server) for _ in range(scene.processes)
    )
    ends = await asyncio.gather(*processes)
    elapsed = clock() - start
    world.cancel()
    await asyncio.gather(world, return_exceptions=True)
    return Outcome(
        scene=scene,
        elapsed=elapsed,
        finished=[finished - start for finished, _ in ends],
        lost=sum(lost for _, lost in ends),
        arrivals=server.arrivals,
        rival=server.rival,
    )


async def run_process(lookups: int, client: Client, server: Server) -> tuple[float, int]:
    """Let one client do all its lookups; when it was done, and how many it gave up."""
    left = iter(range(lookups))
    workers = (_work(left, client, server) for _ in range(CONCURRENCY))
    lost = sum(await asyncio.gather(*workers))
    return server.clock(), lost


async def _work(left: Iterator[int], client: Client, server: Server) -> int:
    lost = 0
    for _ in left:
        lost += not await client.lookup(server)
    return lost


def _rate(limit: FakeLimit) -> float:
    return limit.requests / limit.per
