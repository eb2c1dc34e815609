"""What the learning pacer takes from each reply: by hand, without a loop or a server's model."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import pytest

from hilos_async import RateLimit, Reply
from hilos_async._pace.learning import LearningPacer
from hilos_async._pace.pacer import Quota

if TYPE_CHECKING:
    from collections.abc import Coroutine

ROUND_TRIP = 0.05


def value(coroutine: Coroutine[object, object, float]) -> float:
    """What a coroutine returns that never waits."""
    with pytest.raises(StopIteration) as caught:
        coroutine.send(None)
    return float(caught.value.value)


class Talk:
    """A pacer, the time, and what its server says."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.pacer = LearningPacer(clock=lambda: self.now)

    @property
    def limit(self) -> RateLimit | None:
        return self.pacer.pace().limit

    @property
    def rate(self) -> float:
        rate = self.pacer._slots.rate
        assert rate is not None
        return rate

    @property
    def pause(self) -> float:
        """Seconds until the pause ends."""
        return max(0.0, self.pacer.paused_until - self.now)

    def leave(self) -> float:
        """Wait for the next slot and send a request in it."""
        self.now = max(self.now, value(self.pacer.reserve()))
        self.pacer.sent(self.now)
        return self.now

    def accept(self, requests: int = 1, quota: Quota | None = None) -> None:
        """Send so many, each accepted at once."""
        for _ in range(requests):
            sent = self.leave()
            self.pacer.report(Reply("accepted", sent, sent + 0.001, quota=quota))

    def spend(self, requests: int, seconds: float = 1.0) -> None:
        """So many are sent and accepted, evenly, in that time, however the pacer would space them."""
        for number in range(requests):
            sent = self.now + (number + 0.5) * seconds / requests
            self.pacer.report(Reply("accepted", sent, sent + 0.001))
        self.now += seconds

    def refuse(self, retry_after: float | None = 1.0, quota: Quota | None = None) -> None:
        """Send one now that is refused."""
        sent, self.now = self.now, self.now + ROUND_TRIP
        self.pacer.report(Reply("refused", sent, self.now, retry_after, retry_after, quota))

    def learned(self) -> RateLimit:
        """The limit, once the pause is over and somebody asks for a slot."""
        self.leave()
        assert self.limit is not None
        return self.limit

    def wait(self, seconds: float) -> RateLimit | None:
        """Nobody refuses for so long, and somebody asks for a slot; the limit then."""
        self.now += seconds
        value(self.pacer.reserve())
        return self.limit


def holding(limit: int) -> Talk:
    """A pacer that has just learned a limit per second, and whose pause has ended."""
    talk = Talk()
    talk.spend(2 * limit, seconds=2.0)
    talk.refuse()
    assert talk.learned() == RateLimit(limit)
    return talk


# Ramp.


def test_it_starts_at_twenty_per_second_and_knows_no_limit() -> None:
    talk = Talk()
    assert talk.rate == pytest.approx(20)
    assert talk.limit is None
    first, second = talk.leave(), talk.leave()
    assert second - first == pytest.approx(0.05)
    assert talk.pacer.paused_until < talk.now


def test_the_ramp_risks_six_requests_a_round_trip_or_15_percent_of_what_was_accepted() -> None:
    talk = Talk()
    for accepted in range(1, 400):
        sent = talk.leave()
        talk.pacer.report(Reply("accepted", sent, sent + ROUND_TRIP))
        talk.now = sent + ROUND_TRIP
        if accepted in (1, 40):
            assert talk.rate * ROUND_TRIP == pytest.approx(6, rel=0.02)
    assert talk.rate * ROUND_TRIP == pytest.approx(0.15 * 399, rel=0.1)


def test_a_slow_reply_never_takes_it_below_where_it_started() -> None:
    talk = Talk()
    sent = talk.leave()
    talk.pacer.report(Reply("accepted", sent, sent + 10.0))
    assert talk.rate == pytest.approx(20)


def test_a_failure_is_no_acceptance_and_no_refusal() -> None:
    talk = Talk()
    sent = talk.leave()
    talk.pacer.report(Reply("failed", sent, sent + 0.001))
    assert talk.rate == pytest.approx(20)
    assert (talk.limit, talk.pause) == (None, 0.0)


# Learn.


def test_the_first_refusal_shows_the_limit_what_was_accepted_in_the_second_before() -> None:
    talk = Talk()
    talk.spend(30, seconds=3.0)
    talk.refuse()
    assert talk.limit is None  # replies to what was sent before may still come
    assert 1.0 <= talk.pause <= 1.02
    assert talk.learned() == RateLimit(10)
    assert 9.9 < talk.rate < 10


def test_what_was_accepted_and_is_heard_of_only_in_the_pause_counts() -> None:
    talk = Talk()
    on_their_way = [talk.leave() for _ in range(4)]
    talk.refuse()
    for sent in on_their_way:
        talk.pacer.report(Reply("accepted", sent, talk.now + 0.01))
    assert talk.learned() == RateLimit(4)


def test_of_refusals_in_one_pause_the_first_that_was_sent_is_learned_from() -> None:
    talk = Talk()
    talk.spend(10)
    first, second, third = talk.now, talk.now + 0.35, talk.now + 0.4
    for sent in (second, first, third):
        talk.pacer.report(Reply("refused", sent, third + ROUND_TRIP, 1.0, 1.0))
    talk.now = third + ROUND_TRIP
    assert talk.learned() == RateLimit(10)  # 6 before the second


def test_a_refusal_of_the_very_first_request_leaves_one_per_second() -> None:
    talk = Talk()
    talk.refuse()
    assert talk.learned() == RateLimit(1)


@pytest.mark.parametrize("per", [1.0, 60.0, 3_600.0, 86_400.0])
def test_the_window_is_the_one_that_explains_the_retry_after(per: float) -> None:
    talk = Talk()
    first = talk.now + 0.1 * per / 14
    talk.spend(7, seconds=0.1 * per)
    talk.now += 0.4 * per
    talk.spend(3, seconds=0.1 * per)
    talk.refuse(math.ceil(first + per - talk.now))
    assert talk.learned() == RateLimit(10, per)


@pytest.mark.parametrize("retry_after", [None, 17.0])
def test_where_no_window_explains_it_a_second_is_taken(retry_after: float | None) -> None:
    talk = Talk()
    talk.spend(20, seconds=4.0)
    talk.refuse(retry_after)
    assert talk.learned() == RateLimit(5)


def test_a_window_that_explains_a_long_wait_is_believed_where_only_a_part_of_it_is_obeyed() -> None:
    talk = Talk()
    talk.spend(100, seconds=10.0)
    sent = talk.now
    talk.now += ROUND_TRIP
    talk.pacer.report(Reply("refused", sent, talk.now, 3_590.0, 120.0))
    assert 120.0 <= talk.pause <= 122.4
    talk.now = talk.pacer.paused_until
    assert value(talk.pacer.reserve()) >= sent + 3_590.0
    assert talk.limit == RateLimit(100, 3_600.0)


# Hold: try a little more.


def test_after_twenty_quiet_seconds_it_tries_2_percent_more() -> None:
    talk = holding(50)
    assert talk.wait(19.0) == RateLimit(50)
    assert talk.wait(7.0) == RateLimit(51)


def test_each_try_that_nobody_refuses_doubles_the_next_step() -> None:
    talk = holding(100)
    tries = [talk.wait(26.0) for _ in range(4)]
    assert tries == [RateLimit(requests) for requests in (102, 107, 116, 135)]


def test_a_failed_try_goes_back_and_waits_twice_as_long_for_the_next() -> None:
    talk = holding(50)
    for patience in (25.0, 50.0, 100.0):
        assert talk.wait(0.7 * patience) == RateLimit(50)
        assert talk.wait(0.35 * patience) == RateLimit(51)
        talk.spend(51)
        talk.refuse()
        assert talk.learned() == RateLimit(50)


def test_no_two_tries_are_more_than_an_hour_apart() -> None:
    talk = holding(50)
    for _ in range(12):
        assert talk.wait(3_601.0) == RateLimit(51)
        talk.spend(51)
        talk.refuse()
        assert talk.learned() == RateLimit(50)


def test_where_a_refusal_costs_30_seconds_the_first_try_comes_after_25_times_that() -> None:
    talk = Talk()
    talk.spend(20, seconds=4.0)
    talk.refuse(30.0)
    assert talk.learned() == RateLimit(5)
    assert talk.wait(740.0) == RateLimit(5)
    assert talk.wait(12.0) == RateLimit(6)


# Hold: give way.


def test_a_refusal_without_a_try_gives_way_and_the_more_the_sooner_it_comes_again() -> None:
    talk = holding(100)
    limits = [100.0]
    for _ in range(6):
        talk.spend(100)
        talk.refuse()
        limits.append(talk.learned().requests)
    shares = [later / earlier for earlier, later in itertools.pairwise(limits)]
    assert shares[0] <= 0.98
    assert all(later < earlier for earlier, later in itertools.pairwise(shares[:5]))
    assert shares[5] == pytest.approx(0.5, abs=0.02)  # and never more than half


def test_after_a_long_quiet_time_it_gives_way_by_2_percent_again() -> None:
    talk = holding(100)
    for limit in (96, 88):
        talk.spend(100)
        talk.refuse()
        assert talk.learned() == RateLimit(limit)
    # Asked for no slot all the while, so that nothing more is tried.
    talk.now += 30.0
    talk.spend(100)
    talk.refuse()
    assert talk.learned() == RateLimit(86)


def test_a_limit_that_has_dropped_is_taken_from_what_was_accepted() -> None:
    talk = holding(100)
    talk.spend(20)
    talk.refuse()
    assert talk.learned() == RateLimit(20)


def test_a_limit_that_dropped_just_when_more_was_tried_is_believed_too() -> None:
    talk = holding(100)
    assert talk.wait(26.0) == RateLimit(102)
    talk.spend(20)
    talk.refuse()
    assert talk.learned() == RateLimit(20)


def test_another_window_than_the_known_one_is_learned_anew() -> None:
    talk = holding(10)
    talk.now += 100.0
    talk.spend(200, seconds=20.0)
    talk.refuse(40.0)
    assert talk.learned() == RateLimit(200, 60.0)


# What header fields say.


def test_an_announced_limit_is_taken_over_at_once() -> None:
    talk = Talk()
    talk.accept(quota=Quota(requests=600, per=60.0, remaining=599, reset=60.0))
    assert talk.limit == RateLimit(600, 60.0)


def test_an_announced_limit_is_news_only_once() -> None:
    talk = Talk()
    quota = Quota(requests=100, per=1.0)
    talk.accept(quota=quota)
    talk.now += 1.0
    talk.spend(50)
    talk.refuse(quota=quota)
    learned = talk.learned()
    assert learned == RateLimit(50)
    talk.accept(quota=quota)
    assert talk.limit == learned
    talk.accept(quota=Quota(requests=70, per=1.0))
    assert talk.limit == RateLimit(70)


def test_the_announced_window_is_the_first_that_is_thought_of() -> None:
    talk = Talk()
    quota = Quota(requests=100, per=10.0)
    talk.accept(quota=quota)
    talk.now += 10.0
    talk.spend(40, seconds=10.0)
    talk.refuse(None, quota=quota)
    assert talk.learned() == RateLimit(40, 10.0)


@pytest.mark.parametrize(
    "quota", [Quota(), Quota(requests=5), Quota(per=1.0), Quota(requests=0, per=1.0)]
)
def test_half_an_announcement_is_none(quota: Quota) -> None:
    talk = Talk()
    talk.accept(quota=quota)
    assert talk.limit is None


def test_nothing_remaining_stops_the_ramp_before_the_first_refusal() -> None:
    talk = Talk()
    talk.spend(9, seconds=0.9)
    talk.accept(quota=Quota(remaining=0, reset=1.0))
    assert 0.9 < talk.pause < 1.1
    assert talk.limit is None
    assert talk.learned() == RateLimit(10)


def test_once_a_limit_is_known_nothing_remaining_is_no_news() -> None:
    talk = holding(50)
    talk.accept(quota=Quota(remaining=0, reset=30.0))
    assert talk.pause == 0.0


def test_a_remaining_that_a_429_contradicts_is_distrusted_from_then_on() -> None:
    talk = Talk()
    talk.accept()
    talk.refuse(quota=Quota(remaining=3))
    # Before anybody asks for a slot, no limit is known.
    talk.pacer.report(
        Reply("accepted", talk.now, talk.now + 0.01, quota=Quota(remaining=0, reset=900.0))
    )
    assert talk.pause < 2.0


@pytest.mark.parametrize("remaining", [0, None])
def test_a_remaining_that_a_429_agrees_with_is_trusted_on(remaining: int | None) -> None:
    talk = Talk()
    talk.accept()
    talk.refuse(quota=Quota(remaining=remaining))
    sent = talk.now + 0.001
    talk.pacer.report(Reply("accepted", sent, sent + 0.01, quota=Quota(remaining=0, reset=900.0)))
    assert talk.pause > 800.0


# Pauses.


def test_a_server_that_is_busy_gets_its_pause_and_teaches_no_limit() -> None:
    talk = Talk()
    talk.accept(20)
    sent = talk.leave()
    talk.now = sent + ROUND_TRIP
    talk.pacer.report(Reply("busy", sent, talk.now, 10.0, 10.0))
    assert 10.0 <= talk.pause <= 10.2
    at = talk.leave()
    assert at >= sent + ROUND_TRIP + 10.0
    assert talk.limit is None


def test_without_a_retry_after_the_pause_is_a_second_then_the_window_and_doubles() -> None:
    talk = Talk()
    talk.refuse(None)
    assert 1.0 <= talk.pause <= 1.02
    talk.refuse(None)
    assert 2.0 <= talk.pause <= 2.04
    talk.accept()
    talk.refuse(None)
    assert 1.0 <= talk.pause <= 1.02


def test_no_slot_lies_in_the_pause() -> None:
    talk = holding(50)
    talk.refuse(5.0)
    assert value(talk.pacer.reserve()) >= talk.pacer.paused_until > talk.now + 4.9


def test_it_takes_the_monotonic_clock_and_any_scope() -> None:
    pacer = LearningPacer()
    pacer.bind("whose")
    assert value(pacer.reserve()) > 0
