"""The reckoning of a pace: the same in memory, in a file and in Redis, for whatever happens.

`HISTORIES=10000 pytest tests/test_reckoning.py` plays as many random histories, and a part of that
before servers that keep a limit; without it, a few.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
from collections import Counter
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec
import pytest
import redis

from hilos_async import Reply
from hilos_async._pace import limits, reckoning, redis_script
from hilos_async._pace.pacer import Quota
from hilos_async._pace.state import Refusal, State, decode, encode, moved, told
from hilos_async.testing import FakeLimit
from hilos_async.testing._limits import FakeLimiter, Kind
from tests.redis_server import BINARY, MISSING, RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hilos_async._pace.pacer import Verdict

HISTORIES = int(os.environ.get("HISTORIES", "100"))
SERVERS = max(8, HISTORIES // 12)
REQUESTS = 600  # to each of them
TICK = 2.0**-12  # seconds; times are whole numbers of it, so that no difference is ever rounded


class Scripted:
    """The script, by a clock that a test sets, and what it keeps."""

    def __init__(self, client: redis.Redis) -> None:
        asks = "redis.call('TIME')"
        assert redis_script._SCRIPT.count(asks) == 1
        self.script = redis_script._SCRIPT.replace(asks, "{ ARGV[2], 0 }")
        self.sha = hashlib.sha1(self.script.encode()).hexdigest()
        self.client = client
        client.script_load(self.script)
        self.key = "state"

    def call(self, now: float, report: redis_script.Report) -> redis_script.Answer:
        answer = self.client.evalsha(
            self.sha, 2, self.key, f"{self.key}:p", msgspec.json.encode(report), repr(now)
        )
        return msgspec.json.decode(answer, type=redis_script.Answer)

    def state(self) -> State:
        """What it keeps, as the state that it should be."""
        packed: Any = self.client.get(self.key)
        kept = msgspec.msgpack.decode(packed)
        kept["until"] = kept.pop("till")
        for own in ("last", "ahead", "heard"):
            del kept[own]
        for name in ("reserved", "flying", "replies", "log"):
            kept[name] = kept[name] or []  # an empty table is a map to it
        refused = kept.pop("refused", None)
        state = msgspec.convert(kept, State)
        if refused is not None:
            refused.setdefault("retry_after", None)
            state.refused = Refusal(**refused)
        return state


@pytest.fixture(scope="module")
def scripted() -> Iterator[Scripted]:
    if BINARY is None:
        pytest.skip(MISSING)
    with RedisServer() as server, redis.Redis(port=server.port) as client:
        yield Scripted(client)


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
            early = self.server.ask(self.now)
            if early is None:
                return Reply("accepted", sent, max(self.now, sent + TICK))
            said = self.server.limit.advice(early)
            wait = None if said is None else float(said)
            return Reply("refused", sent, max(self.now, sent + TICK), wait, wait)
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


def fields(now: float, reply: Reply, spread: float) -> redis_script.Event:
    return redis_script.Event(
        now - reply.sent,
        reply.verdict,
        now - reply.received,
        reply.retry_after,
        reply.wait,
        redis_script.quota_fields(reply.quota),
        spread,
    )


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


def compare(
    state: State,
    slot: float | None,
    now: float,
    scripted: Scripted,
    report: redis_script.Report,
    where: str,
) -> None:
    """Tell the script what the state was told, and compare what both know then."""
    answer = scripted.call(now, report)
    assert msgspec.structs.asdict(scripted.state()) == msgspec.structs.asdict(state), where
    if report.slots:
        waits = [now + float(wait) for wait in answer.waits]
        assert waits == ([] if slot is None else pytest.approx([slot], abs=1e-9)), where


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
        early = self.server.ask(sent)
        if early is None:
            reply = Reply("accepted", sent, self.now)
        else:
            said = self.server.limit.advice(early)
            wait = None if said is None else float(said)
            reply = Reply("refused", sent, self.now, wait, wait)
        return reply, self.chance.random()


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


def test_memory_a_file_and_redis_reckon_the_same_for_any_history(scripted: Scripted) -> None:
    compared = sum(play(seed, scripted) for seed in range(HISTORIES))
    assert compared > HISTORIES


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
