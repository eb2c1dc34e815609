"""Who sends next: order, classes, pauses and cancellation, in virtual time and without a socket."""

from __future__ import annotations

import asyncio
import functools
import itertools
import random
from typing import TYPE_CHECKING

import pytest

from hilos_async import DeadlineExceededError, RateLimit, Reply, SessionClosedError, TransportError
from hilos_async._pace.known import KnownPacer
from hilos_async._wire.call import Call, Caller
from hilos_async._wire.gate import Gate
from tests import virtual_time
from tests.calls import a_call

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilos_async import FlowExecution, Pace
    from hilos_async._pace.pacer import Verdict

_numbers = itertools.count()


class World:
    """A gate, what left it and when."""

    def __init__(
        self, clock: Callable[[], float], limit: float | None = 5, places: int = 50
    ) -> None:
        self.clock = clock
        self.start = clock()
        self.pacer = KnownPacer(RateLimit(limit) if limit else None, clock=clock)
        self.gate = Gate(self.pacer, places, clock=clock)
        self.batch = Caller(is_batch=True)
        self.left: list[tuple[str, float]] = []

    def call(
        self, caller: Caller | None = None, timeout: float | None = 60.0
    ) -> Call[FlowExecution]:
        return a_call(next(_numbers), caller, self.clock(), timeout)

    async def go(
        self,
        name: str,
        call: Call[FlowExecution],
        takes: float = 0.01,
        verdict: Verdict = "accepted",
    ) -> None:
        await self.gate.enter(call)
        sent = self.clock()
        self.left.append((name, sent - self.start))
        outcome: Verdict | None = None
        try:
            await asyncio.sleep(takes)
            outcome = verdict
        finally:
            wait = 30.0 if outcome == "refused" else None
            self.gate.leave(call, outcome, wait, wait)

    @property
    def order(self) -> list[str]:
        return [name for name, _ in self.left]

    def assert_empty(self) -> None:
        assert (self.gate.in_flight, self.gate.stats().waiting) == (0, 0)


def test_requests_leave_first_in_first_out_and_evenly_spaced() -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock)
        async with asyncio.TaskGroup() as tasks:
            for number in range(20):
                tasks.create_task(world.go(str(number), world.call(world.batch)))
        assert world.order == [str(number) for number in range(20)]
        gaps = [b - a for (_, a), (_, b) in itertools.pairwise(world.left)]
        assert all(0.2 <= gap <= 0.21 for gap in gaps)
        world.assert_empty()

    virtual_time.run(main)


def test_a_single_lookup_goes_before_a_batch_and_waits_at_most_two_slots() -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock)
        async with asyncio.TaskGroup() as tasks:
            for number in range(50):
                tasks.create_task(world.go(f"batch {number}", world.call(world.batch)))
            await asyncio.sleep(1.1)
            asked = clock() - world.start
            tasks.create_task(world.go("single", world.call()))
        left = dict(world.left)
        assert left["single"] - asked <= 2 * 0.21

    virtual_time.run(main)


def test_a_single_lookup_takes_the_slot_that_a_batchs_leader_slept_for() -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock)
        await world.go("before", world.call())
        async with asyncio.TaskGroup() as tasks:
            for number in range(5):
                tasks.create_task(world.go(f"batch {number}", world.call(world.batch)))
            await asyncio.sleep(0.1)
            tasks.create_task(world.go("single", world.call()))
        assert world.order == ["before", "single", *(f"batch {number}" for number in range(5))]

    virtual_time.run(main)


def test_a_batch_is_never_starved_for_good() -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(world.go("leader", world.call()))
            await asyncio.sleep(0)
            tasks.create_task(world.go("batch", world.call(world.batch)))
            for number in range(40):
                tasks.create_task(world.go(f"single {number}", world.call()))
        assert world.order.index("batch") <= 11

    virtual_time.run(main)


def test_a_retry_goes_to_the_front_of_its_class() -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock)
        async with asyncio.TaskGroup() as tasks:
            for number in range(5):
                tasks.create_task(world.go(str(number), world.call(world.batch)))
            await asyncio.sleep(0.05)
            again = world.call(world.batch)
            again.attempts = 1
            tasks.create_task(world.go("again", again))
        assert world.order == ["0", "1", "again", "2", "3", "4"]
        assert world.gate.retries == 1

    virtual_time.run(main)


@pytest.mark.parametrize("victim", [0, 1, 2, 3])
def test_a_cancelled_waiter_leaves_no_hole_wherever_it_waits(victim: int) -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock)
        await world.go("before", world.call())
        tasks = [asyncio.create_task(world.go(str(n), world.call())) for n in range(4)]
        await asyncio.sleep(0.1)
        tasks[victim].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(world.left) == 4
        assert world.left[-1][1] <= 3 * 0.21
        world.assert_empty()

    virtual_time.run(main)


def test_a_slot_that_a_cancelled_leader_left_long_ago_makes_no_burst() -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock)
        await world.go("before", world.call())
        leader = asyncio.create_task(world.go("cancelled", world.call()))
        await asyncio.sleep(0.05)
        leader.cancel()
        await asyncio.sleep(5)
        await asyncio.gather(*(world.go(str(n), world.call()) for n in range(3)))
        gaps = [b - a for (_, a), (_, b) in itertools.pairwise(world.left)]
        assert min(gaps) >= 0.2

    virtual_time.run(main)


def test_a_waiter_cancelled_in_the_moment_it_is_handed_the_lead_passes_it_on() -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock, limit=None, places=1)
        first = world.call()
        await world.gate.enter(first)
        second = asyncio.create_task(world.go("second", world.call()))
        third = asyncio.create_task(world.go("third", world.call()))
        await asyncio.sleep(0)
        world.gate.leave(first, None)  # hands the lead to second, which has not run yet
        second.cancel()
        await asyncio.gather(second, third, return_exceptions=True)
        assert second.cancelled()
        assert world.order == ["third"]
        world.assert_empty()

    virtual_time.run(main)


def test_no_more_requests_are_under_way_than_there_are_places() -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock, limit=None, places=3)
        most = 0

        async def go(number: int) -> None:
            nonlocal most
            call = world.call(world.batch)
            await world.gate.enter(call)
            most = max(most, world.gate.in_flight)
            await asyncio.sleep(1)
            world.gate.leave(call, "accepted")

        async with asyncio.TaskGroup() as tasks:
            for number in range(10):
                tasks.create_task(go(number))
        assert most == 3
        assert clock() - world.start == pytest.approx(4, abs=0.1)

    virtual_time.run(main)


def test_after_a_pause_one_request_goes_first_and_the_others_wait_for_what_it_finds() -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock, limit=None)
        await world.go("refused", world.call(timeout=None), verdict="refused")
        async with asyncio.TaskGroup() as tasks:
            for number in range(10):
                tasks.create_task(world.go(str(number), world.call(world.batch), takes=2.0))
        times = [at for _, at in world.left[1:]]
        assert 30 <= times[0] <= 30.7
        assert all(at >= times[0] + 2.0 for at in times[1:])
        assert world.gate.refusals == 1

    virtual_time.run(main)


def test_a_probe_that_is_cancelled_hands_the_question_on() -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock, limit=None)
        await world.go("refused", world.call(timeout=None), verdict="refused")
        probe = asyncio.create_task(world.go("probe", world.call(world.batch), takes=9.0))
        others = [
            asyncio.create_task(world.go(f"{n}", world.call(world.batch), takes=1.0))
            for n in range(3)
        ]
        await asyncio.sleep(32)
        assert world.order == ["refused", "probe"]
        probe.cancel()
        await asyncio.gather(probe, *others, return_exceptions=True)
        times = [at for _, at in world.left[2:]]
        assert times[1] >= times[0] + 1.0
        world.assert_empty()

    virtual_time.run(main)


def test_cancellation_while_paused_is_immediate() -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock)
        await world.go("refused", world.call(timeout=None), verdict="refused")
        waiting = [asyncio.create_task(world.go("x", world.call(world.batch))) for _ in range(3)]
        await asyncio.sleep(1)
        now = clock()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert clock() == now
        world.assert_empty()

    virtual_time.run(main)


def test_a_single_lookup_that_cannot_make_it_fails_when_that_is_clear() -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock)
        refused = asyncio.create_task(world.go("refused", world.call(), 0.1, "refused"))
        await asyncio.sleep(0)
        queued = [asyncio.create_task(world.go("x", world.call(timeout=5.0))) for _ in range(3)]
        await refused
        now = clock()
        found = await asyncio.gather(*queued, return_exceptions=True)
        assert [type(error) for error in found] == [DeadlineExceededError] * 3
        assert clock() - now <= 0.21  # the one that slept until its slot sees the pause there
        with pytest.raises(DeadlineExceededError, match="lookup's timeout of 5 s"):
            await world.go("later", world.call(timeout=5.0))
        assert clock() == now
        world.assert_empty()

    virtual_time.run(main)


def test_a_queued_lookup_fails_at_its_deadline() -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock, limit=None, places=1)
        holder = asyncio.create_task(world.go("holder", world.call(timeout=None), takes=100.0))
        await asyncio.sleep(0)
        with pytest.raises(DeadlineExceededError):
            await world.go("x", world.call(timeout=5.0))
        assert clock() - world.start == pytest.approx(5.0)
        holder.cancel()

    virtual_time.run(main)


def test_in_a_batch_the_pause_does_not_count_to_the_lookup_only_to_the_batch() -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock)
        await world.go("refused", world.call(timeout=None), verdict="refused")
        await world.go("patient", world.call(world.batch, timeout=1.0))
        hasty = Caller(is_batch=True, deadline=clock() + 0.05, timeout=0.05)
        with pytest.raises(DeadlineExceededError, match=r"batch's timeout of 0.05 s"):
            await world.go("hasty", world.call(hasty))

    virtual_time.run(main)


def test_ten_failures_in_a_row_make_everybody_wait_and_one_success_ends_it() -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock, limit=None)
        call = world.call(timeout=None)
        call.delay = 1.0
        for number in range(10):
            await world.go(str(number), call, verdict="failed")
            assert (world.gate.paused_until > world.start) is (number == 9)
        call.delay = 4.0
        await world.go("fails", call, verdict="failed")
        now = clock()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(world.go("o", world.call(), takes=1.0))
        first, *rest = [at + world.start - now for name, at in world.left if name == "o"]
        assert first == pytest.approx(4.0)
        assert all(at >= first + 1.0 for at in rest)
        await world.go("fails", call, verdict="failed")
        assert world.gate.paused_until < clock()

    virtual_time.run(main)


def test_no_sleep_is_begun_that_would_end_after_the_deadline() -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock)
        call = world.call(timeout=5.0)
        call.last_error = TransportError("reset")
        with pytest.raises(DeadlineExceededError, match="last: reset") as caught:
            await world.gate.back_off(call, 6.0)
        assert caught.value.__cause__ is call.last_error
        assert clock() == world.start

    virtual_time.run(main)


@pytest.mark.parametrize("moment", [0.05, 0.5])
def test_closing_fails_all_who_wait_at_once_queued_leading_or_backing_off(moment: float) -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock)
        waiting = [asyncio.create_task(world.go("x", world.call(world.batch))) for _ in range(9)]
        waiting.append(asyncio.create_task(world.gate.back_off(world.call(), 9.0)))
        await asyncio.sleep(moment)
        left = len(world.left)
        world.gate.close(lambda: SessionClosedError("closed"))
        now = clock()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert clock() == now
        assert sum(isinstance(error, SessionClosedError) for error in found) == 10 - left
        with pytest.raises(SessionClosedError):
            await world.gate.enter(world.call())
        world.assert_empty()

    virtual_time.run(main)


def test_stopping_a_batch_fails_its_waiters_and_nobody_elses() -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock)
        doomed = [
            asyncio.create_task(world.go("doomed", world.call(world.batch))) for _ in range(5)
        ]
        other = asyncio.create_task(world.go("other", world.call(Caller(is_batch=True))))
        await asyncio.sleep(0.05)
        world.gate.stop(world.batch, TransportError("stopped"))
        found = await asyncio.gather(*doomed, other, return_exceptions=True)
        assert sum(isinstance(error, TransportError) for error in found) == 4
        assert world.order == ["doomed", "other"]
        with pytest.raises(TransportError):
            await world.gate.back_off(world.call(world.batch), 0.0)

    virtual_time.run(main)


class BrokenPacer:
    """A pacer that cannot give a slot."""

    paused_until = 0.0

    def bind(self, scope: str) -> None:
        raise AssertionError("no session has it")

    async def reserve(self) -> float:
        raise TransportError("no slot")

    def sent(self, at: float) -> None:
        raise AssertionError("nothing was sent")

    def report(self, reply: Reply) -> None:
        raise AssertionError("nothing came back")

    async def flush(self) -> None:
        raise AssertionError("no session closed")

    def pace(self) -> Pace:
        raise AssertionError("nobody asked")


def test_an_error_of_the_pacer_reaches_each_who_asks_and_the_lead_is_passed_on() -> None:
    async def main(clock: Callable[[], float]) -> None:
        gate = Gate(BrokenPacer(), 5, clock=clock)
        calls = [a_call(n, Caller(is_batch=True), clock(), None) for n in range(3)]
        found = await asyncio.gather(*map(gate.enter, calls), return_exceptions=True)
        assert [type(error) for error in found] == [TransportError] * 3
        assert gate.in_flight == 0

    virtual_time.run(main)


@pytest.mark.parametrize("seed", range(0, 400, 40))
def test_whoever_gives_up_at_whatever_moment_nobody_waits_for_ever(seed: int) -> None:
    for each in range(seed, seed + 40):
        assert virtual_time.run(functools.partial(_mixed, random.Random(each))) == (0, 0, 0)


async def _mixed(chance: random.Random, clock: Callable[[], float]) -> tuple[int, int, int]:
    """Singles and a batch under refusals, deadlines and cancellation: who is left, in the end."""
    limit = chance.choice([None, RateLimit(5), RateLimit(1)])
    gate = Gate(KnownPacer(limit, clock=clock), chance.choice([1, 2, 50]), clock=clock)
    batch = Caller(is_batch=True)
    outcomes: list[Verdict] = ["accepted", "accepted", "accepted", "accepted", "failed", "refused"]

    async def lookup(number: int) -> None:
        await asyncio.sleep(5 * chance.random())
        caller = batch if chance.random() < 0.6 else Caller(is_batch=False)
        patient = caller.is_batch and chance.random() < 0.7
        timeout = None if patient else 0.05 + 6 * chance.random()
        call = a_call(number, caller, clock(), timeout)
        verdict: Verdict | None = "refused"
        while verdict == "refused":
            try:
                await gate.enter(call)
            except DeadlineExceededError:
                return
            verdict = wait = None
            try:
                await asyncio.sleep(0.3 * chance.random())
                verdict = chance.choice(outcomes)
                wait = 4 * chance.random() if verdict == "refused" else None
            finally:
                gate.leave(call, verdict, wait, wait)

    tasks = [asyncio.create_task(lookup(number)) for number in range(chance.randint(2, 14))]
    for _ in range(chance.randint(0, 6)):
        await asyncio.sleep(2 * chance.random())
        chance.choice(tasks).cancel()
    _, waiting = await asyncio.wait(tasks, timeout=5_000)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return len(waiting), gate.in_flight, gate.stats().waiting


def test_closing_reaches_who_waits_in_the_pacer_and_not_only_in_the_queue() -> None:
    class Distant(KnownPacer):
        async def reserve(self) -> float:
            await asyncio.sleep(1.0)  # a round trip to Redis
            return self._clock() + 30.0

    async def main(clock: Callable[[], float]) -> float:
        gate = Gate(Distant(None, clock=clock), 50, clock=clock)
        began = clock()
        call = a_call(1, None, began, 60.0)
        entering = asyncio.create_task(gate.enter(call))
        await asyncio.sleep(0.5)
        gate.close(lambda: SessionClosedError("closed"))
        with pytest.raises(SessionClosedError):
            await entering
        return clock() - began

    assert virtual_time.run(main) == pytest.approx(1.0)


@pytest.mark.parametrize("lookups", [1, 50])
def test_one_loop_of_single_lookups_does_not_starve_a_batch(lookups: int) -> None:
    async def main(clock: Callable[[], float]) -> None:
        world = World(clock)

        async def polls() -> None:
            for _ in range(100):
                await world.go("single", world.call())

        async with asyncio.TaskGroup() as tasks:
            for _ in range(lookups):
                tasks.create_task(world.go("batch", world.call(world.batch)))
            await polls()
        assert "batch" in world.order[:15]
        assert world.order[:100].count("batch") in ({1} if lookups == 1 else range(8, 15))
        world.assert_empty()

    virtual_time.run(main)
