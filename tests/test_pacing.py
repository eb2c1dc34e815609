"""The pacer of a known limit: no model of a server that counts that limit sees too many."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilos_async import Pace, RateLimit, Reply
from hilos_async._pace.known import KnownPacer
from hilos_async.testing import FakeLimit

if TYPE_CHECKING:
    from collections.abc import Coroutine


class Clock:
    """Time that a test sets."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def value(coroutine: Coroutine[object, object, float]) -> float:
    """What a coroutine returns that never waits."""
    with pytest.raises(StopIteration) as caught:
        coroutine.send(None)
    return float(caught.value.value)


def leave(pacer: KnownPacer, clock: Clock, late: float = 0.0) -> float:
    clock.now = max(clock.now, value(pacer.reserve())) + late
    pacer.sent(clock.now)
    return clock.now


@given(
    limit=st.builds(RateLimit, st.integers(1, 60), st.sampled_from([0.5, 1.0, 60.0])),
    lateness=st.lists(st.floats(0, 3), min_size=1, max_size=200),
    kind=st.sampled_from(["sliding-log", "fixed-window", "bucket"]),
)
def test_no_server_that_counts_the_limit_refuses_however_late_requests_leave(
    limit: RateLimit,
    lateness: list[float],
    kind: Literal["sliding-log", "fixed-window", "bucket"],
) -> None:
    clock = Clock()
    pacer = KnownPacer(limit, clock=clock)
    server = FakeLimit(int(limit.requests), per=limit.per, kind=kind).start()
    for late in lateness:
        assert server.ask(leave(pacer, clock, late * limit.per)) is None


def test_slots_are_evenly_spaced_from_the_first_request_on() -> None:
    clock = Clock()
    pacer = KnownPacer(RateLimit(5), clock=clock)
    times = [leave(pacer, clock) for _ in range(50)]
    gaps = {round(later - earlier, 9) for earlier, later in itertools.pairwise(times)}
    assert times[0] == 50.0
    assert len(gaps) == 1
    assert 0.2 < gaps.pop() < 0.2 * 1.01


def test_the_usual_lateness_of_a_loop_costs_no_goodput() -> None:
    clock = Clock()
    pacer = KnownPacer(RateLimit(5), clock=clock)
    for number in range(500):
        leave(pacer, clock, late=0.001 * (number % 5))
    assert clock.now - 50.0 == pytest.approx(499 * 0.2, rel=0.01)


def test_idle_time_is_not_saved_up_for_a_burst() -> None:
    clock = Clock()
    pacer = KnownPacer(RateLimit(5), clock=clock)
    leave(pacer, clock)
    clock.now += 100
    first, second = leave(pacer, clock), leave(pacer, clock)
    assert second - first > 0.2


def refused(sent: float, received: float, retry_after: float | None = None) -> Reply:
    return Reply("refused", sent, received, retry_after, retry_after)


def test_a_refusal_pauses_until_retry_after_and_a_little_spread() -> None:
    clock = Clock()
    pacer = KnownPacer(None, clock=clock)
    pacer.report(refused(50.0, 50.1, 30.0))
    assert 80.1 <= pacer.paused_until <= 80.1 + 0.6
    assert value(pacer.reserve()) == pacer.paused_until


def test_a_pause_moves_forward_and_never_back() -> None:
    pacer = KnownPacer(None, clock=Clock())
    pacer.report(refused(50.0, 50.1, 30.0))
    end = pacer.paused_until
    pacer.report(refused(51.0, 51.1, 1.0))
    assert pacer.paused_until == end
    pacer.report(refused(79.0, 79.1, 30.0))
    assert pacer.paused_until > end


def test_refusals_of_requests_sent_before_the_pause_do_not_count_again() -> None:
    pacer = KnownPacer(None, clock=Clock())
    pacer.report(refused(50.0, 50.1, 5.0))
    end = pacer.paused_until
    pacer.report(refused(50.05, 54.0, 5.0))
    assert pacer.paused_until == end


def test_a_wait_that_the_session_does_not_obey_is_no_pause() -> None:
    pacer = KnownPacer(RateLimit(5), clock=Clock())
    pacer.report(Reply("refused", 50.0, 50.1, 1e9, 0.0))
    assert pacer.paused_until <= 50.1


def test_without_a_retry_after_the_pause_is_the_window_and_doubles() -> None:
    pacer = KnownPacer(RateLimit(5, per=2.0), clock=Clock())
    now, waits = 50.0, []
    for _ in range(8):
        pacer.report(refused(now, now))
        waits.append(pacer.paused_until - now)
        now = pacer.paused_until
    for wait, expected in zip(waits, [2, 4, 8, 16, 20, 20, 20, 20], strict=True):
        assert expected <= wait <= expected * 1.02
    pacer.report(Reply("accepted", now, now))
    pacer.report(refused(now, now))
    assert pacer.paused_until - now <= 2.04


def test_a_failure_tells_a_known_limit_nothing() -> None:
    pacer = KnownPacer(RateLimit(5), clock=Clock())
    pacer.report(Reply("failed", 50.0, 51.0))
    assert pacer.paused_until < 50


def test_the_pace_is_readable() -> None:
    assert KnownPacer(None).pace() == Pace(rate=None, limit=None)
    pace = KnownPacer(RateLimit(5)).pace()
    assert pace.limit == RateLimit(5)
    assert pace.rate == pytest.approx(5, rel=0.01)


def test_the_clock_is_monotonic_time_by_default() -> None:
    async def main() -> bool:
        return await KnownPacer(None).reserve() <= asyncio.get_running_loop().time()

    assert asyncio.run(main())
