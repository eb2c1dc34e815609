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


def test_without_a_retry_after_the_pause_is_one_interval_then_up_to_the_window_and_longer() -> None:
    pacer = KnownPacer(RateLimit(5, per=2.0), clock=Clock())
    now, waits = 50.0, []
    for _ in range(8):
        pacer.report(refused(now, now))
        waits.append(pacer.paused_until - now)
        now = pacer.paused_until
    for wait, expected in zip(waits, [0.4, 1.6, 2, 2, 2, 4, 8, 16], strict=True):
        assert expected <= wait <= expected * 1.03
    pacer.report(Reply("accepted", now, now))
    pacer.report(refused(now, now))
    assert pacer.paused_until - now < 0.5


def refuse_once(pacer: KnownPacer, clock: Clock) -> None:
    """Refuse the next request for a second, and accept the one that goes first after the pause."""
    sent = leave(pacer, clock)
    pacer.report(refused(sent, sent, 1.0))
    sent = leave(pacer, clock)
    pacer.report(Reply("accepted", sent, sent))


def test_refusals_although_the_limit_was_kept_widen_the_padding_and_time_gives_it_back() -> None:
    clock = Clock()
    pacer = KnownPacer(RateLimit(50), clock=clock)
    rates: list[float] = []
    for _ in range(8):
        refuse_once(pacer, clock)
        rates.append(pacer.pace().rate or 0)
    shares = (1.02, 1.05, 1.1, 1.2, 1.35, 1.6, 1.6, 1.6)
    assert rates == [pytest.approx(50 / share) for share in shares]
    clock.now += 10_000
    leave(pacer, clock)
    assert pacer.pace().rate == pytest.approx(50 / 1.35)


def test_after_one_bad_minute_the_padding_is_given_back_in_as_many_minutes() -> None:
    clock = Clock()
    pacer = KnownPacer(RateLimit(5), clock=clock)
    for _ in range(6):
        refuse_once(pacer, clock)
        clock.now += 10
    assert pacer.pace().rate == pytest.approx(5 / 1.6)
    for _ in range(7):
        clock.now += 61
        sent = leave(pacer, clock)
        pacer.report(Reply("accepted", sent, sent))
    assert pacer.pace().rate == pytest.approx(5 / 1.004)


def test_a_thousand_refusals_in_a_row_make_a_pause_of_a_minute() -> None:
    clock = Clock()
    pacer = KnownPacer(RateLimit(5), clock=clock)
    for _ in range(2_000):
        sent = leave(pacer, clock)
        pacer.report(refused(sent, sent))
        assert pacer.paused_until - sent <= 62
    assert pacer.paused_until - clock.now >= 60


def test_after_a_refusal_at_the_kept_rate_a_late_request_is_not_caught_up() -> None:
    clock = Clock()
    pacer = KnownPacer(RateLimit(50), clock=clock)
    sent = leave(pacer, clock)
    pacer.report(refused(sent, sent))
    sent = leave(pacer, clock)
    pacer.report(Reply("accepted", sent, sent))
    late = leave(pacer, clock, late=0.015)
    assert leave(pacer, clock) - late > 0.02


def test_pacers_of_one_scope_on_one_loop_share_what_they_know() -> None:
    async def main() -> None:
        clock = Clock()
        pacers = [KnownPacer(RateLimit(5), clock=clock) for _ in range(3)]
        for pacer, scope in zip(pacers, ("one", "one", "other"), strict=True):
            pacer.bind(scope)
        slots = [await pacer.reserve() for pacer in pacers]
        assert slots[1] > slots[0] + 0.2
        assert slots[2] == slots[0]
        unlike = KnownPacer(RateLimit(6), clock=clock)
        unlike.bind("one")
        assert await unlike.reserve() == slots[0]

    asyncio.run(main())
    asyncio.run(main())  # another loop: nothing is left of the first


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
