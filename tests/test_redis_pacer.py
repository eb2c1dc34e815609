"""One limit for a fleet, on a real redis-server: shared slots, pause and limit; outages; blocks."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import heapq
import itertools
import subprocess
import sys
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import pytest
import redis
import redis.asyncio
import valkey.asyncio

from benchmarks import fleet
from hilos_async import (
    AuthenticationError,
    HilosSession,
    Pace,
    RateLimit,
    Reply,
    TransportError,
)
from hilos_async import redis as redis_module
from hilos_async._pace import redis_script as _redis_script
from hilos_async._pace.pacer import Quota
from hilos_async.redis import RedisPacer
from hilos_async.testing import FakeHilos, FakeLimit
from tests.redis_server import BINARY, MISSING, RedisServer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator
    from pathlib import Path

    from hilos_async.redis import AsyncRedis

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(BINARY is None, reason=MISSING)]

TIME = "the-time"
PATIENCE = 60.0
KEY = "sk-9f8e7d6c5b4a-very-secret"
SLOW = RateLimit(20)  # slots 50 ms apart


class Clock:
    """The time of the pacers and of their Redis, which goes on when a test says so.

    Nothing that the machine does meanwhile takes any of it.
    """

    now = 1_000.0
    ahead = 1_700_000_000.0  # of Redis: the two share no epoch

    def __call__(self) -> float:
        return self.now


class Client(redis.asyncio.Redis):
    """Counts the calls of the script, and lets a test hold them up.

    With a ``clock``, the pacers of ``bound`` and the script tell the time by it.
    """

    calls = 0
    clock: Clock | None = None
    delay = 0.0  # seconds of the clock that a call is on its way, there and back
    let_through: asyncio.Event | None = None  # what calls wait for

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        is_call = args[0] in ("EVAL", "EVALSHA")
        if is_call:
            self.calls += 1
            if self.let_through is not None:
                await self.let_through.wait()
            await self.go_on(self.delay)
        try:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        finally:
            if is_call:
                await self.go_on(self.delay)

    async def go_on(self, seconds: float) -> None:
        """Let time go by, for all and at once."""
        if seconds:
            await self.go_to(self.still.now + seconds)

    async def go_to(self, now: float) -> None:
        """Let it be that time, unless it is later already."""
        self.still.now = max(self.still.now, now)
        await self.set(TIME, repr(self.still.now + self.still.ahead))

    @property
    def still(self) -> Clock:
        assert self.clock is not None, "this test runs in real time"
        return self.clock


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


_bound: list[RedisPacer] = []


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take no call on a busy machine for an outage; an ``Outage`` is as impatient as in life."""
    monkeypatch.setattr(redis_module, "_ANSWERS_IN", PATIENCE)


@pytest.fixture
async def real(running: RedisServer) -> AsyncIterator[Client]:
    """A client of a Redis that is empty, in real time."""
    async with Client(port=running.port) as client, flushing():
        await client.flushall()
        yield client


@pytest.fixture
async def client(real: Client, monkeypatch: pytest.MonkeyPatch) -> Client:
    """The same in time that stands still: the script is the one that is shipped but for its clock."""
    asks = "redis.call('TIME')"
    script = _redis_script._SCRIPT
    assert script.count(asks) == 1
    script = script.replace(asks, f"{{ redis.call('GET', '{TIME}'), 0 }}")
    monkeypatch.setattr(_redis_script, "_SCRIPT", script)
    monkeypatch.setattr(_redis_script, "_SHA", hashlib.sha1(script.encode()).hexdigest())
    real.clock = Clock()
    await real.go_to(0.0)
    return real


class Outage:
    """A Redis that is killed or stopped; each call of it then takes half a second at most."""

    def __init__(self, server: RedisServer, how: str = "killed") -> None:
        self._server = server
        self._how = how
        self._server.kill() if how == "killed" else self._server.stop()
        redis_module._ANSWERS_IN = 0.5  # type: ignore[misc]  # ``_patient`` puts it back

    def end(self) -> None:
        self._server.start() if self._how == "killed" else self._server.go_on()
        redis_module._ANSWERS_IN = PATIENCE  # type: ignore[misc]


def standing(pacer: RedisPacer) -> float:
    """Let a pacer's clock stand still from now on, however long the test takes."""
    now = time.monotonic()
    pacer._clock = lambda: now
    return now


@asynccontextmanager
async def own_server() -> AsyncGenerator[tuple[RedisServer, Client]]:
    """A server that a test may kill."""
    with RedisServer() as server:
        async with Client(port=server.port) as client, flushing():
            yield server, client


@asynccontextmanager
async def flushing() -> AsyncGenerator[None]:
    """Leave no call of a pacer behind that outlives its client, as a session sees to."""
    try:
        yield
    finally:
        while _bound:
            await _bound.pop().flush()


def bound(
    client: AsyncRedis, limit: RateLimit | None = SLOW, scope: str = "scope", **options: Any
) -> RedisPacer:
    pacer = RedisPacer(client, limit, **options)
    if isinstance(client, Client) and client.clock is not None:
        pacer._clock = client.clock
    pacer.bind(scope)
    _bound.append(pacer)
    return pacer


def left(pacer: RedisPacer, ago: float) -> float:
    """Let a request have left that long ago."""
    at = pacer._clock() - ago
    pacer.sent(at)
    return at


def accepted(pacer: RedisPacer, ago: float) -> None:
    sent = left(pacer, ago)
    pacer.report(Reply("accepted", sent, sent + 0.01))


def refused(pacer: RedisPacer, ago: float, retry_after: float | None) -> None:
    sent = left(pacer, ago)
    pacer.report(Reply("refused", sent, sent + 0.01, retry_after, retry_after))


def taught(pacer: RedisPacer, requests: int = 50) -> None:
    """Live through the meeting with a limit per second, ten seconds ago."""
    for number in range(requests):
        accepted(pacer, 10.9 - 0.8 * number / requests)
    refused(pacer, 10.0, 1.0)


async def learned(pacer: RedisPacer) -> RateLimit | None:
    """The limit, once a request got through after the pause, if there is one."""
    slot = await asyncio.wait_for(pacer.reserve(), 5.0)
    clock = pacer._clock
    if isinstance(clock, Clock):
        clock.now = max(clock.now, slot)
        await cast(Client, pacer._client).go_to(clock.now)
    pacer.sent(slot)
    pacer.report(Reply("accepted", slot, slot + 0.001))
    await pacer.flush()
    return pacer.pace().limit


# --- slots


async def test_slots_of_several_pacers_are_disjoint_and_evenly_spaced(client: Client) -> None:
    pacers = [bound(client) for _ in range(3)]
    rounds = [await asyncio.gather(*(p.reserve() for p in pacers)) for _ in range(10)]
    slots = sorted(itertools.chain(*rounds))
    interval = 1 / (pacers[0].pace().rate or 0)
    assert 0.05 < interval < 0.05 * 1.02
    steps = [round((slot - slots[0]) / interval) for slot in slots]
    assert steps == list(range(30))
    assert client.calls == 30 + 1  # the first found no script


async def test_a_slot_is_never_early_however_long_the_answer_takes(client: Client) -> None:
    pacer = bound(client)
    await pacer.reserve()
    client.delay = 0.1
    asked = client.still()
    assert await pacer.reserve() >= asked + 0.05
    await client.go_on(0.2)
    asked = client.still()
    assert await pacer.reserve() >= asked + 0.1  # when the script read its clock


async def test_idle_time_is_not_saved_up_for_a_burst(client: Client) -> None:
    pacer = bound(client)
    await pacer.reserve()
    await client.go_on(0.3)
    first, second = await pacer.reserve(), await pacer.reserve()
    assert second - first > 0.04


async def test_no_slot_comes_before_the_one_a_window_earlier_has_arrived_a_window_ago(
    client: Client,
) -> None:
    limit = RateLimit(4, per=0.2)
    one, other = bound(client, limit), bound(client, limit)
    slots = [await (one, other)[number % 2].reserve() for number in range(4)]
    for number, late in enumerate([0.0, 0.0, 0.1, 0.0]):  # the third was on its way for longer
        pacer = (one, other)[number % 2]
        pacer.sent(slots[number])
        pacer.report(Reply("accepted", slots[number], slots[number] + 0.01 + late))
    await client.go_to(slots[-1] + 0.01)
    slots += [await (one, other)[number % 2].reserve() for number in range(4)]
    assert slots[7] >= slots[2] + 0.1 + 0.2 - 0.001
    assert slots == sorted(slots)


async def test_a_limit_below_one_per_window_and_one_with_a_fraction(client: Client) -> None:
    rare = bound(client, RateLimit(0.5))
    assert 0.49 < (await rare.reserve(), rare.pace().rate or 0)[1] < 0.5
    # No window of a second may see three: 2.5 is 2.
    broken = bound(client, RateLimit(2.5), scope="broken")
    assert 1.9 < (await broken.reserve(), broken.pace().rate or 0)[1] < 2


async def test_a_fast_fleet_reserves_blocks_and_asks_for_far_less_than_every_slot(
    client: Client,
) -> None:
    pacers = [bound(client, RateLimit(500)) for _ in range(2)]

    waiting = [(await pacer.reserve(), number) for number, pacer in enumerate(pacers)]
    slots: list[float] = []
    while len(slots) < 300:
        at, number = heapq.heappop(waiting)
        await client.go_to(at)
        pacers[number].sent(at)
        slots.append(at)
        heapq.heappush(waiting, (await pacers[number].reserve(), number))
    assert len(set(slots)) == 300
    assert client.calls < 300 * 0.6
    assert slots[-1] - slots[0] >= 299 / 500


async def test_the_slots_of_a_block_that_nobody_used_in_time_are_lost(client: Client) -> None:
    pacer = bound(client, RateLimit(500))
    for _ in range(100):
        at = await pacer.reserve()
        await client.go_to(at)
        pacer.sent(at)
        if pacer._slots:
            break
    else:
        pytest.fail("a pacer that uses many slots reserves no block")
    await client.go_on(0.1)
    asked = client.still()
    assert await pacer.reserve() >= asked - 0.02


async def test_a_slower_fleet_asks_once_for_each_slot(real: Client) -> None:
    async with (
        FakeHilos() as fake,
        fake.session(pace=RedisPacer(real, RateLimit(100))) as hilos,
        fake.session(pace=RedisPacer(real, RateLimit(100))) as other,
    ):
        ids = [UUID(int=n) for n in range(60)]
        await asyncio.gather(hilos.gather_executions(ids), other.gather_executions(ids))
        assert fake.accepted == 120
    assert real.calls <= 120 * 1.1


async def test_a_clock_that_is_set_back_does_not_stop_the_fleet(client: Client) -> None:
    pacer = bound(client)
    await pacer.reserve()
    client.still.ahead -= 3_600
    await client.go_on(0.05)
    slots = [await pacer.reserve() for _ in range(3)]
    assert slots[-1] < client.still() + 1
    assert slots == sorted(slots)


async def test_what_is_kept_expires(real: Client) -> None:
    pacer = bound(real, None)
    taught(pacer)
    await pacer.reserve()
    names = [name async for name in real.scan_iter()]
    assert len(names) == 2
    assert all([0 < await real.ttl(name) <= 172_800 for name in names])


# --- who shares


async def test_other_scopes_and_keys_never_share_a_bucket(client: Client) -> None:
    groups = [("a", None), ("b", None), ("a", "mine"), ("a", "yours")]
    pacers = [bound(client, scope=scope, key=key) for scope, key in groups]
    slots = [await pacer.reserve() for pacer in pacers]
    assert slots[-1] - slots[0] < 0.04
    one = [bound(client, scope=scope, key="one") for scope in ("a", "b")]
    assert (await one[1].reserve()) - (await one[0].reserve()) < -0.04


async def test_sessions_share_by_base_url_and_key_and_redis_never_sees_the_key(
    real: Client,
) -> None:
    async with FakeHilos(KEY) as fake, FakeHilos(KEY) as elsewhere:
        for server, key in [(fake, KEY), (fake, KEY), (elsewhere, KEY), (fake, KEY + "2")]:
            async with server.session(token=key, pace=RedisPacer(real)) as hilos:
                for number in range(3):
                    with suppress(AuthenticationError):
                        await hilos.get_execution(UUID(int=number))
    names = {name async for name in real.scan_iter()}
    assert len({name.partition(b"}")[0] for name in names}) == 3
    dump = b"".join([name + cast(bytes, await real.dump(name)) for name in sorted(names)])
    assert KEY.encode() not in dump
    assert KEY[3:15].encode() not in dump


async def test_a_pacer_serves_one_base_url_and_key_unless_it_has_a_name(client: Client) -> None:
    pacer = RedisPacer(client)
    for _ in range(2):
        HilosSession("one", pace=pacer)
    with pytest.raises(ValueError, match="make one RedisPacer for each"):
        HilosSession("another", pace=pacer)
    named = RedisPacer(client, key="both")
    HilosSession("one", pace=named)
    HilosSession("another", pace=named)
    with pytest.raises(RuntimeError, match=r"HilosSession\(pace=...\) binds it"):
        await RedisPacer(client).reserve()


# --- the pause


async def test_a_pause_of_one_is_a_pause_of_all_without_anybody_asking(client: Client) -> None:
    one, other = bound(client), bound(client)
    await asyncio.gather(one.reserve(), other.reserve())
    refused(one, 0.01, 30.0)
    assert one.paused_until > client.still() + 29
    assert one._call is not None
    await one._call  # in the background
    slot = await other.reserve()
    assert other.paused_until > client.still() + 29
    assert one.paused_until <= slot + 0.02
    await client.go_to(slot)
    other.sent(slot)  # one request goes first, whoever sends it
    waiting = [asyncio.create_task(pacer.reserve()) for pacer in (one, bound(client))]
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in waiting)
    other.report(Reply("accepted", slot, slot + 0.01))
    await other.flush()
    slots = sorted(await asyncio.gather(*waiting))
    assert slots[0] > slot + 0.04
    assert slots[1] > slots[0] + 0.04


async def test_a_session_that_closes_tells_the_fleet_of_a_refusal_first(real: Client) -> None:
    pacer = RedisPacer(real, key="shared")
    async with HilosSession("one", pace=pacer):
        now = time.monotonic()
        pacer.report(Reply("busy", now, now, 30.0, 30.0))
        assert real.calls == 0
    assert real.calls > 0
    assert await bound(real, key="shared").reserve() > now + 29


async def test_a_session_that_closes_tells_what_would_have_gone_along_with_a_slot(
    real: Client,
) -> None:
    pacer = RedisPacer(real, key="shared")
    async with FakeHilos() as fake, fake.session(pace=pacer) as hilos:
        await hilos.get_execution(UUID(int=1))
        assert pacer._happened
        calls = real.calls
    assert not pacer._happened
    assert real.calls == calls + 1
    await hilos.aclose()
    assert real.calls == calls + 1


async def test_closing_does_not_wait_for_a_redis_that_is_gone() -> None:
    async with own_server() as (server, client):
        pacer = bound(client)
        await pacer.reserve()
        Outage(server)
        with pytest.raises(TransportError):
            await pacer.reserve()
        accepted(pacer, 0.0)
        calls = client.calls
        await pacer.flush()
        assert client.calls == calls


async def test_a_server_that_is_busy_pauses_all_and_teaches_nothing(client: Client) -> None:
    pacer = bound(client, None)
    now = client.still()
    pacer.report(Reply("busy", now, now, 5.0, 5.0))
    other = bound(client, None)
    assert await other.reserve() > now + 4.9
    assert other.pace().limit is None


# --- learning


async def test_a_limit_that_one_meets_is_the_limit_of_all(client: Client) -> None:
    one, other = bound(client, None), bound(client, None)
    assert await learned(other) is None
    assert other.pace() == Pace(rate=None, limit=None)
    taught(one)
    assert await learned(one) == RateLimit(50)
    assert await learned(other) == RateLimit(50)
    assert await learned(bound(client, None)) == RateLimit(50)
    assert await learned(bound(client, None, scope="elsewhere")) is None


async def test_what_each_had_accepted_counts_together(client: Client) -> None:
    pacers = [bound(client, None) for _ in range(3)]
    for pacer in pacers:
        for number in range(20):
            accepted(pacer, 10.9 - 0.04 * number)
        await pacer.reserve()
    for pacer in pacers:
        refused(pacer, 10.0, 1.0)
    assert await learned(pacers[0]) == RateLimit(60)


async def test_the_window_is_the_one_that_explains_retry_after(client: Client) -> None:
    pacer = bound(client, None)
    for number in range(30):
        accepted(pacer, 100.0 - 0.15 * number)
    refused(pacer, 95.0, 55.0)
    assert await learned(pacer) == RateLimit(30, per=60.0)


async def test_a_limit_that_the_server_announces_is_taken_over_and_not_exceeded(
    client: Client,
) -> None:
    pacer, other = bound(client, None), bound(client, None)
    now = client.still()
    pacer.report(Reply("accepted", now, now, quota=Quota(30, 60.0, 29, 2.0)))
    assert await learned(pacer) == RateLimit(30, per=60.0)
    assert await learned(other) == RateLimit(30, per=60.0)
    assert await learned(other) == RateLimit(30, per=60.0)
    other.report(Reply("accepted", now, now, quota=Quota(20, 60.0, 19, 2.0)))
    assert await learned(other) == RateLimit(20, per=60.0)
    assert await learned(pacer) == RateLimit(20, per=60.0)


async def test_a_budget_said_to_be_used_up_pauses_the_fleet(client: Client) -> None:
    pacer = bound(client, None)
    now = client.still()
    pacer.report(Reply("accepted", now, now, quota=Quota(remaining=0, reset=7.0)))
    assert pacer._call is not None
    await pacer._call  # in the background
    assert pacer.paused_until > now + 6.9
    assert await bound(client, None).reserve() > now + 6.9
    sceptic = bound(client, None, scope="sceptic")
    sceptic.report(Reply("refused", now, now, 0.01, 0.01, Quota(remaining=3)))
    sceptic.report(Reply("accepted", now, now, quota=Quota(remaining=0, reset=7.0)))
    await sceptic.flush()
    assert sceptic.paused_until < now + 1


# --- cancellation


async def test_a_cancelled_reservation_is_kept_for_the_next(client: Client) -> None:
    pacer = bound(client)
    first = await pacer.reserve()
    client.let_through = asyncio.Event()
    calls = client.calls
    for _ in range(3):
        task = asyncio.create_task(pacer.reserve())
        for _ in range(5):
            await asyncio.sleep(0)  # it asks, or joins the one who does
        assert client.calls == calls + 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    client.let_through.set()
    slots = [first, await pacer.reserve(), await pacer.reserve()]
    assert [round((slot - first) / 0.05) for slot in slots] == [0, 1, 2]


async def test_sessions_that_share_a_pacer_get_slots_of_their_own(client: Client) -> None:
    pacer = bound(client)
    slots = await asyncio.gather(*(pacer.reserve() for _ in range(5)))
    assert sorted(round((slot - min(slots)) / 0.05) for slot in slots) == [0, 1, 2, 3, 4]


# --- other clients


async def test_the_script_is_loaded_again_after_it_was_flushed(client: Client) -> None:
    pacer = bound(client)
    slots = [await pacer.reserve()]
    await client.script_flush()
    slots.append(await pacer.reserve())
    assert 0.04 < slots[1] - slots[0] < 0.06


@pytest.mark.parametrize("decode", [False, True])
async def test_a_client_of_valkey_and_one_of_redis_share(
    client: Client, running: RedisServer, decode: bool
) -> None:
    valkey_client = valkey.asyncio.Valkey(port=running.port, decode_responses=decode)
    async with valkey_client as other, flushing():
        await other.script_flush()
        pacers = [bound(other), bound(client)]
        pacers[0]._clock = client.still
        slots = [await pacer.reserve() for pacer in pacers]
        assert 0.04 < slots[1] - slots[0] < 0.06


async def test_all_keys_of_a_bucket_lie_on_one_node_of_a_cluster(tmp_path: Path) -> None:
    with RedisServer("--cluster-enabled", "yes", "--dir", str(tmp_path)) as server:
        async with Client(port=server.port) as node:
            await node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            for _ in range(500):  # it takes a while to trust itself
                if b"cluster_state:ok" in await node.execute_command("CLUSTER", "INFO"):
                    break
                await asyncio.sleep(0.01)
            cluster_client = redis.asyncio.RedisCluster(host="127.0.0.1", port=server.port)
            async with cluster_client as cluster, flushing():
                pacers = [bound(cluster, None, scope=scope) for scope in "abc"]
                for pacer in pacers:
                    taught(pacer)
                    assert await learned(pacer) == RateLimit(50)
                assert len(await node.keys()) == 6


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"client": redis.Redis()}, TypeError, r"client=redis.*Redis is no asyncio client"),
        ({"client": None}, TypeError, "NoneType is no asyncio client"),
        ({"limit": 50}, TypeError, "limit must be a RateLimit, not int"),
        ({"key": 1}, TypeError, "key must be a str, not int"),
        ({"key": ""}, ValueError, "key='' must be a name"),
        ({"key": "a}b"}, ValueError, "no braces"),
        ({"on_outage": "ignore"}, ValueError, "on_outage='ignore' must be 'raise' or 'share'"),
    ],
)
async def test_a_bad_argument_is_refused_by_name(
    given: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        RedisPacer(**(dict[str, Any](client=redis.asyncio.Redis()) | given))


# --- outages


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_an_outage_is_raised_at_once_after_the_first_and_ends(how: str) -> None:
    async with own_server() as (server, client):
        pacer = bound(client)
        await pacer.reserve()
        calls = client.calls
        asked = standing(pacer)
        outage = Outage(server, how)
        for _ in range(100):
            with pytest.raises(TransportError, match="bring Redis back") as caught:
                await pacer.reserve()
            assert not caught.value.transient
            assert isinstance(caught.value.__cause__, (OSError, redis.RedisError))
        assert client.calls == calls + 1  # one call of half a second, not a hundred
        outage.end()
        pacer._clock = time.monotonic
        pacer._ask_again = 0.0
        assert await pacer.reserve() > asked


async def test_a_session_gives_its_lookups_the_outage() -> None:
    async with own_server() as (server, client), FakeHilos() as fake:
        async with fake.session(pace=RedisPacer(client, RateLimit(100))) as hilos:
            await hilos.get_execution(UUID(int=1))
            Outage(server)
            batch = await hilos.gather_executions([UUID(int=n) for n in range(50)])
            assert len(batch.errors) >= 48  # a block of slots may be left
            assert all(isinstance(error, TransportError) for error in batch.errors.values())
            assert fake.requests <= 3


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_in_an_outage_each_goes_on_with_its_share_and_joins_again(how: str) -> None:
    limit = RateLimit(50)
    async with own_server() as (server, client):
        pacers = [bound(client, limit, on_outage="share") for _ in range(3)]
        for pacer in pacers:
            await pacer.reserve()
        await pacers[0].reserve()  # has now heard of all three
        await pacers[1].reserve()
        for pacer in pacers:
            standing(pacer)
        outage = Outage(server, how)
        calls = client.calls
        slots = sorted([await p.reserve() for _ in range(20) for p in pacers])
        for first, after in zip(slots, slots[50:], strict=False):
            assert after - first >= 1.0  # no window holds more than the limit
        assert all(p.pace().rate == pytest.approx(50 // 3, rel=0.02) for p in pacers)
        assert client.calls - calls == len(pacers)
        for pacer in pacers:
            pacer._clock = time.monotonic
        refused(pacers[0], 0.0, 60.0)
        outage.end()
        for pacer in pacers:
            pacer._ask_again = 0.0
            await pacer.reserve()  # from its share, and asks meanwhile
            assert pacer._call is not None
            await pacer._call
        assert all(p.pace().rate == pytest.approx(50, rel=0.02) for p in pacers)
        newcomer = bound(client, limit)
        assert await newcomer.reserve() > time.monotonic() + 50  # the pause went along


async def test_a_process_that_joins_again_keeps_to_its_share_until_the_others_are_back() -> None:
    async with own_server() as (server, client):
        pacers = [bound(client, RateLimit(50), on_outage="share") for _ in range(2)]
        for pacer in (*pacers, *pacers):
            await pacer.reserve()
        standing(pacers[0])
        outage = Outage(server)
        await pacers[0].reserve()
        outage.end()
        pacers[0]._ask_again = 0.0
        await pacers[0].reserve()
        assert pacers[0]._call is not None
        await pacers[0]._call
        calls = client.calls
        slots = [await pacers[0].reserve() for _ in range(5)]
        assert client.calls >= calls + 2  # in slots of Redis again
        assert all(after - slot >= 2 / 50 for slot, after in itertools.pairwise(slots))


async def test_what_was_learned_outlives_the_redis_it_was_in(client: Client) -> None:
    pacer = bound(client, None)
    taught(pacer)
    assert await learned(pacer) == RateLimit(50)
    await client.flushall()
    await client.go_to(0.0)
    assert await learned(pacer) == RateLimit(50)
    assert await learned(bound(client, None)) == RateLimit(50)


async def test_in_the_ramp_the_share_is_one_of_its_rate() -> None:
    async with own_server() as (server, client):
        pacers = [bound(client, None, on_outage="share") for _ in range(4)]
        for _ in range(2):
            for pacer in pacers:
                await pacer.reserve()
        standing(pacers[0])
        Outage(server)
        slots = [await pacers[0].reserve() for _ in range(3)]
        assert slots[2] - slots[1] == pytest.approx(4 / 20)
        accepted(pacers[0], 0.0)
        await asyncio.sleep(0)
        assert pacers[0].pace().rate == pytest.approx(5)


async def test_shares_below_one_per_window_stretch_it() -> None:
    async with own_server() as (server, client):
        pacers = [bound(client, RateLimit(2, per=0.1), on_outage="share") for _ in range(4)]
        for _ in range(2):
            for pacer in pacers:
                await pacer.reserve()
        Outage(server)
        await pacers[0].reserve()
        assert pacers[0].pace().rate == pytest.approx(2 / 0.1 / 4, rel=0.02)


async def test_before_the_first_contact_there_is_no_share() -> None:
    async with own_server() as (server, client):
        Outage(server)
        pacer = bound(client, on_outage="share")
        assert pacer.pace().rate is None
        for _ in range(3):
            with pytest.raises(TransportError, match="has not answered yet"):
                await pacer.reserve()


async def test_an_error_of_redis_is_an_outage_and_its_words_are_passed_on(client: Client) -> None:
    await client.lpush("hilos_async:{scope}:pace", "no state")
    with pytest.raises(TransportError, match="WRONGTYPE"):
        await bound(client, None).reserve()


# --- four processes


class PatientProcess(fleet.Process):
    """One that takes no stall of a busy machine for an outage."""

    def __init__(self, *arguments: object) -> None:
        code = (
            "import runpy, hilos_async.redis\n"
            f"hilos_async.redis._ANSWERS_IN = {PATIENCE}\n"
            "runpy.run_module('benchmarks.fleet', run_name='__main__')"
        )
        self.popen = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )


def test_four_processes_keep_one_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "Process", PatientProcess)
    done = fleet.run(400, known=True, limit=50, latency=0.0)
    assert done.fetched == 400
    # 0 as a rule. A server that stalls for long sees a burst: a refusal that all four meet, each time.
    assert done.refusals <= 40
    assert done.apart < 0.5
    assert done.calls <= 1.1


async def test_a_fleet_learns_a_limit_by_few_refusals(real: Client) -> None:
    async with (
        FakeHilos(limit=FakeLimit(100), latency=0.01) as fake,
        contextlib.AsyncExitStack() as stack,
    ):
        pacers = [RedisPacer(real) for _ in range(3)]
        sessions = [await stack.enter_async_context(fake.session(pace=pacer)) for pacer in pacers]
        ids = [[UUID(int=n) for n in range(start, 300, 3)] for start in range(3)]
        batches = await asyncio.gather(
            *(hilos.gather_executions(part) for hilos, part in zip(sessions, ids, strict=True))
        )
        assert [len(batch.executions) for batch in batches] == [100, 100, 100]
        assert fake.refused <= 30
        for pacer in pacers:  # after that, all have heard what each had to tell
            await learned(pacer)
        (limit,) = {await learned(pacer) for pacer in pacers}
    assert limit is not None
    # What is sent evenly arrives in bursts where the machine stalls.
    assert 60 <= limit.requests <= 130
