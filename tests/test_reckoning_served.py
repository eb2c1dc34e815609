"""The reckoning of a pace before servers that keep a limit: the same in memory, in a file and in Redis.

All that there is to learn is reached: a test counts it.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec
import pytest

from hilos_async import Reply
from hilos_async._pace import limits, reckoning, redis_script
from hilos_async._pace.state import State, decode, encode, moved
from hilos_async.testing import FakeLimit
from hilos_async.testing._limits import Kind
from tests.reckonings import HISTORIES, TICK, Scripted, answered, compare, fields, started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hilos_async._pace.pacer import Verdict

SERVERS = max(8, HISTORIES // 12)
REQUESTS = 600  # to each of them
CROWDED = 2_000  # requests and replies


@pytest.fixture(scope="module")
def scripted() -> Iterator[Scripted]:
    yield from started()


class Demand:
    """A client that asks all the time, before a server that keeps a limit, and later another."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = 1_000.0
        per = self.chance.choice([1.0, 1.0, 2.0, 10.0])
        kinds: list[Kind] = [*get_args(Kind), "bucket"]
        kind = self.chance.choice(kinds)
        ways: list[Literal["none", "exact"] | float] = ["none", "exact", 1.0]
        told = self.chance.choice(ways)
        at_first, later = self.chance.choice([5, 10, 20]), self.chance.choice([4, 5, 9, 18, 30])
        self.server = FakeLimit(at_first, per=per, kind=kind, retry_after=told).start()
        self.later = FakeLimit(later, per=per, kind=kind, retry_after=told)
        self.asked = 0

    def ask(self, slot: float | None) -> tuple[Reply, float]:
        """Send a request in that slot, or a little later; the reply, and its chance."""
        assert slot is not None  # nothing is under way
        self.asked += 1
        if self.asked == REQUESTS // 2:
            self.server.change(self.later)
        late = self.chance.choice([0, 0, 0, 1, 8])
        sent = max(self.now, math.ceil(slot / TICK) * TICK) + late * TICK
        self.now = sent + self.chance.choice([4, 8, 9]) * TICK
        return answered(self.server, sent, sent, self.now), self.chance.random()


def play_demand(seed: int, scripted: Scripted) -> int:
    """Play it in both; how often more was tried."""
    demand = Demand(seed)
    scripted.client.delete(scripted.key)
    state, tries = State(), 0
    report = redis_script.Report("one", 1)
    for number in range(REQUESTS):
        was_tried = state.before > 0
        slot = reckoning.reserve(state, demand.now)
        compare(state, slot, demand.now, scripted, report, f"server {seed}, request {number}")
        tries += state.before > 0 and not was_tried
        reply, spread = demand.ask(slot)
        reckoning.left(state, reply.sent)
        reckoning.report(state, reply, spread)
        state = decode(encode(state))
        events = [redis_script.Event(demand.now - reply.sent), fields(demand.now, reply, spread)]
        report = redis_script.Report("one", 1, 2 * number + 1, events=events)
    return tries


class Crowd:
    """Many requests under way at once, before a server that counts by the clock's own minutes."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = 1_020.0 + self.chance.choice([1, 25, 45, 55])  # a minute began at 1,020
        requests, per = self.chance.choice([(150, 60.0), (250, 10.0), (120, 60.0)])
        kinds: list[Kind] = ["fixed-window", "fixed-window", "sliding-counter"]
        self.server = FakeLimit(requests, per=per, kind=self.chance.choice(kinds)).start()
        self.most = self.chance.choice([8, 24, 40])
        self.flying: list[float] = []

    def leave(self, slot: float) -> float:
        """Send a request in that slot."""
        self.now = max(self.now, math.ceil(slot / TICK) * TICK)
        self.flying.append(self.now)
        return self.now

    def reply(self) -> tuple[Reply, float]:
        """The reply to one of them, and its chance."""
        sent = self.flying.pop(self.chance.randrange(len(self.flying)))
        self.now += self.chance.choice([1, 4, 9, 40]) * TICK
        reply = answered(self.server, self.now, sent, self.now)
        return reply, self.chance.choice([0.0, 0.5, 1.0])


def play_crowd(seed: int, scripted: Scripted, reached: Counter[str]) -> None:
    """Play it in both, and count what a guess did."""
    crowd = Crowd(seed)
    scripted.client.delete(scripted.key)
    state, events = State(), 1
    for step in range(CROWDED):
        where = f"crowd {seed}, step {step}"
        slot, was_guess = None, state.guessed
        if len(crowd.flying) < crowd.most:
            slot = reckoning.reserve(state, crowd.now)
            compare(state, slot, crowd.now, scripted, redis_script.Report("one", 1, events), where)
            reached["bounded by a guess"] += slot is None and was_guess and not state.probing
        if slot is not None:
            at = crowd.leave(slot)
            reckoning.left(state, at)
            event = redis_script.Event(crowd.now - at)
        else:
            reply, spread = crowd.reply()
            reckoning.report(state, reply, spread)
            event = fields(crowd.now, reply, spread)
        state = decode(encode(state))
        report = redis_script.Report("one", 0, events, events=[event])
        compare(state, None, crowd.now, scripted, report, where)
        events += 1
        reached["a guess"] += state.guessed and not was_guess
        reached["a guess outdone"] += was_guess and not state.guessed and slot is None
        reached["a minute"] += was_guess and not state.guessed and state.per == 60.0


def test_memory_a_file_and_redis_learn_the_same_from_servers_that_keep_a_limit(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: Counter[str] = Counter()

    def count(name: str, counts: Callable[[Any], bool]) -> None:
        rule = getattr(limits, name)

        def counted(*known: Any) -> Any:
            result = rule(*known)
            reached[name] += counts(result)
            return result

        monkeypatch.setattr(limits, name, counted)

    rules: dict[str, Callable[[Any], bool]] = {
        "_give_up_try": lambda _: True,
        "_give_way": lambda _: True,
        "_narrow": lambda _: True,
        "_is_early": bool,
        "_has_dropped": bool,
        "_mean": lambda result: result[1],  # whether it flows after all
    }
    for name, counts in rules.items():
        count(name, counts)
    for seed in range(SERVERS):
        reached["tries"] += play_demand(seed, scripted)
    assert [name for name in ("tries", *rules) if not reached[name]] == [], reached


def test_memory_a_file_and_redis_guess_the_same_of_a_window_met_in_its_middle(
    scripted: Scripted,
) -> None:
    reached: Counter[str] = Counter()
    for seed in range(SERVERS // 2):
        play_crowd(seed, scripted, reached)
    rules = ["a guess", "bounded by a guess", "a guess outdone", "a minute"]
    assert [name for name in rules if not reached[name]] == [], reached


@pytest.mark.parametrize(
    ("parts", "sure"),
    [
        ([(50, 0.5, None), (2, 0.05, None), (24, 0.65, None)], False),  # a bucket: both are early
        ([(50, 0.8, 1.0), (20, 0.5, None)], False),  # a window that seems to have dropped
        ([(50, 0.8, 1.0), (20, 0.5, 1.0)], True),
    ],
)
def test_memory_a_file_and_redis_put_the_same_down_to_a_first_burst(
    parts: list[tuple[int, float, float | None]], sure: bool, scripted: Scripted
) -> None:
    scripted.client.delete(scripted.key)
    state, told = State(), 0

    def tell(verdict: Verdict, at: float, wait: float | None = None) -> None:
        nonlocal state, told
        told += 1
        reply = Reply(verdict, at, at + TICK, wait, wait)
        reckoning.report(state, reply, 0.0)
        state = decode(encode(state))
        report = redis_script.Report("one", 0, told, events=[fields(at + TICK, reply, 0.0)])
        compare(state, None, at + TICK, scripted, report, f"{verdict} at {at}")

    now = 1_000.0
    for through, seconds, wait in parts:
        for _ in range(through):
            now += round(seconds / through / TICK) * TICK
            tell("accepted", now)
        tell("refused", now + TICK, wait)
        now = math.ceil(state.until / TICK) * TICK
        tell("accepted", now)
    assert (state.early, state.sure) == (True, sure)


def differing(one: State, other: State) -> set[str]:
    """The fields in which they differ by more than rounding."""

    def flat(value: object) -> list[float | None]:
        if isinstance(value, msgspec.Struct):
            value = msgspec.structs.astuple(value)
        if isinstance(value, (list, tuple)):
            return [part for item in value for part in flat(item)]
        assert value is None or isinstance(value, (int, float))
        return [value]

    def differs(name: str) -> bool:
        pairs = zip_longest(flat(getattr(one, name)), flat(getattr(other, name)))
        return any(
            a != b and (a is None or b is None or not math.isclose(a, b, rel_tol=0, abs_tol=1e-8))
            for a, b in pairs
        )

    return {name for name in State.__struct_fields__ if differs(name)}


def test_a_state_that_is_moved_is_that_of_a_clock_that_has_always_shown_more() -> None:
    more = 4_096.0
    times: set[str] = set()
    for seed in range(4):
        demand, one, other = Demand(seed), State(), State()
        for number in range(REQUESTS):
            slot = reckoning.reserve(one, demand.now)
            reckoning.reserve(other, demand.now + more)
            reply, spread = demand.ask(slot)
            if number % 10 == 0 or one.refused is not None:
                assert differing(moved(one, more), other) == set()
                times |= differing(one, other)
            reckoning.left(one, reply.sent)
            reckoning.left(other, reply.sent + more)
            if number % 10 == 0:
                assert differing(moved(one, more), other) == set()
                times |= differing(one, other)
            reckoning.report(one, reply, spread)
            there = {"sent": reply.sent + more, "received": reply.received + more}
            reckoning.report(other, msgspec.structs.replace(reply, **there), spread)
    words = "next padded reserved flying replies until began probe first log ramp_since emptied"
    assert times == {*words.split(), "refused", "met", "stepped"}
