"""The reckoning of a pace: the same in memory, in a file and in Redis, for whatever happens.

`HISTORIES=10000 pytest tests/test_reckoning*.py` plays as many random histories, and a part of that
before servers that keep a limit; without it, a few.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Literal, get_args

import pytest

from hilos_async import Reply
from hilos_async._pace import reckoning, redis_script
from hilos_async._pace.pacer import Quota
from hilos_async._pace.state import State, decode, encode, told
from hilos_async.testing import FakeLimit
from hilos_async.testing._limits import FakeLimiter, Kind
from tests.reckonings import HISTORIES, TICK, Scripted, answered, compare, fields, started

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hilos_async._pace.pacer import Verdict


@pytest.fixture(scope="module")
def scripted() -> Iterator[Scripted]:
    yield from started()


class History:
    """Chance, and a server that is moody: what happens to a pacer in a few dozen steps."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = 1_000.0
        self.flying: list[float] = []
        self.slots: list[float] = []
        self.limit = self.chance.choice([None, None, None, (5.0, 1.0), (50.0, 1.0), (300.0, 60.0)])
        self.refuses = self.chance.choice([0.02, 0.1, 0.4])
        self.rush = self.chance.choice([0.002, 0.02, 0.2, 5.0])
        self.quota = self.chance.random() < 0.2
        self.retry_after = self.chance.choice([None, 1.0, 7.0, 40.0, 3_000.0])
        self.steps = self.chance.randrange(5, 60)
        # In every fiftieth one a server keeps a limit: long enough that all there is to learn is.
        self.server: FakeLimiter | None = None
        if self.chance.random() < 0.02:
            kind = self.chance.choice(get_args(Kind))
            ways: list[Literal["none", "exact"] | float] = ["none", "exact", 1.0]
            told = self.chance.choice(ways)
            self.server = FakeLimit(
                self.chance.choice([20, 33, 50]),
                per=self.chance.choice([1.0, 1.0, 2.0, 10.0]),
                kind=kind,
                retry_after=told,
            ).start()
            self.limit = None
            self.rush = 0.002
            self.steps = 800

    def go_on(self) -> None:
        seconds = self.chance.expovariate(1 / self.rush)
        self.now += max(1, round(seconds / TICK)) * TICK

    def goes_at(self, slot: float) -> float:
        """When a request leaves in that slot: never before it, and late at times."""
        late = self.chance.choice([0, 0, 0, 1, 40, 900])
        return max(self.now, math.ceil(slot / TICK) * TICK) + late * TICK

    def reply(self) -> Reply:
        sent = self.flying.pop(self.chance.randrange(len(self.flying)))
        words: list[Verdict] = ["accepted", "refused", "busy", "failed"]
        odds = [1 - self.refuses, self.refuses, self.refuses / 9, self.refuses / 9]
        verdict = self.chance.choices(words, odds)[0]
        retry_after = wait = None
        if self.server is not None:
            return answered(self.server, self.now, sent, max(self.now, sent + TICK))
        if verdict == "busy" or (verdict == "refused" and self.chance.random() < 0.7):
            retry_after = self.retry_after or (2.0 if verdict == "busy" else None)
            if retry_after is not None:
                wait = 0.0 if retry_after > 120 else retry_after
        quota = None
        if self.quota and self.chance.random() < 0.5:
            quota = Quota(
                self.chance.choice([None, 40, 50]),
                self.chance.choice([None, 1.0, 60.0]),
                self.chance.choice([None, 0, 3]),
                self.chance.choice([None, 0.0, 2.0]),
            )
        return Reply(verdict, sent, max(self.now, sent + TICK), retry_after, wait, quota)


def play(seed: int, scripted: Scripted) -> int:
    """Play one history in both; how many slots were compared."""
    history = History(seed)
    scripted.client.delete(scripted.key)
    state = told(*history.limit) if history.limit else State()
    limit = (state.requests, state.per) if history.limit else None
    compared = 0
    for step in range(history.steps):
        history.go_on()
        report = redis_script.Report("one", 0, step + 1, limit)
        deed = history.chance.choice(["reserve", "reserve", "leave", "reply", "reply"])
        slot = None
        if deed == "reserve":
            report.slots = 1
            slot = reckoning.reserve(state, history.now)
            if slot is not None:
                history.slots.append(slot)
        elif deed == "leave" and history.slots:
            at = history.goes_at(history.slots.pop(0))
            history.now = max(history.now, at)
            history.flying.append(at)
            reckoning.left(state, at)
            report.events = [redis_script.Event(history.now - at)]
        elif deed == "reply" and history.flying:
            reply = history.reply()
            history.now = max(history.now, reply.received)
            spread = history.chance.random()
            reckoning.report(state, reply, spread)
            report.events = [fields(history.now, reply, spread)]
        state = decode(encode(state))
        where = f"history {seed}, at {history.now}, after {deed}"
        compare(state, slot, history.now, scripted, report, where)
        compared += report.slots
    return compared


def test_memory_a_file_and_redis_reckon_the_same_for_any_history(scripted: Scripted) -> None:
    compared = sum(play(seed, scripted) for seed in range(HISTORIES))
    assert compared > HISTORIES
