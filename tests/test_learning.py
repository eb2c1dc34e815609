"""What the learning pacer takes from each reply: by hand, without a loop or a server's model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from hilos_async import RateLimit, Reply
from hilos_async._pace.learning import LearningPacer
from hilos_async._pace.pacer import Quota

if TYPE_CHECKING:
    from collections.abc import Coroutine

ROUND_TRIP = 0.004


def value(coroutine: Coroutine[object, object, float]) -> float:
    """What a coroutine returns that never waits."""
    with pytest.raises(StopIteration) as caught:
        coroutine.send(None)
    return float(caught.value.value)


def waits(coroutine: Coroutine[object, object, float]) -> bool:
    """Whether it waits for a reply: it looks for the loop, and there is none."""
    try:
        coroutine.send(None)
    except StopIteration:
        return False
    except RuntimeError:
        return True
    raise AssertionError("it waits for something else")


class Talk:
    """A pacer, the time, and what its server says."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.pacer = LearningPacer(clock=lambda: self.now)

    @property
    def limit(self) -> RateLimit | None:
        return self.pacer.pace().limit

    @property
    def kept(self) -> RateLimit:
        """The limit, to three digits."""
        limit = self.limit
        assert limit is not None
        return RateLimit(float(f"{limit.requests:.3g}"), limit.per)

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
        """Send so many in the pacer's slots, each accepted at once."""
        for _ in range(requests):
            sent = self.leave()
            self.pacer.report(Reply("accepted", sent, sent + 0.001, quota=quota))

    def spend(self, requests: int, seconds: float = 1.0) -> None:
        """So many are sent and accepted, evenly, in that time, however the pacer would space them."""
        for number in range(requests):
            sent = self.now + (number + 0.5) * seconds / requests
            self.pacer.sent(sent)
            self.pacer.report(Reply("accepted", sent, sent + 0.001))
        self.now += seconds

    def refuse(self, retry_after: float | None = 1.0, quota: Quota | None = None) -> None:
        """Send one now that is refused."""
        sent, self.now = self.now, self.now + ROUND_TRIP
        self.pacer.sent(sent)
        self.pacer.report(Reply("refused", sent, self.now, retry_after, retry_after, quota))

    def learned(self) -> RateLimit:
        """The limit, once one request got through after the pause."""
        self.accept()
        return self.kept

    def hold(self, seconds: float) -> RateLimit:
        """Use every slot for so long, all accepted; the limit then."""
        end = self.now + seconds
        while self.now < end:
            self.accept()
        return self.kept

    def changes(self) -> tuple[float, RateLimit]:
        """Use every slot, all accepted, until another limit is kept: after how long, and which."""
        began, kept = self.now, self.limit
        while self.limit == kept:
            self.accept()
        return self.now - began, self.kept


def holding(limit: int = 50) -> Talk:
    """A pacer that has just learned a limit per second, and whose pause has ended."""
    talk = Talk()
    talk.spend(limit, seconds=0.8)
    talk.refuse()
    assert talk.learned() == RateLimit(limit)
    return talk


# Ramp: what is under way is bounded.


def test_it_starts_at_twenty_per_second_and_knows_no_limit() -> None:
    talk = Talk()
    assert talk.limit is None
    first, second = talk.leave(), talk.leave()
    assert second - first == pytest.approx(0.05)
    assert talk.pacer.paused_until < talk.now


def test_until_much_was_accepted_no_more_than_six_are_under_way() -> None:
    talk = Talk()
    sent = [talk.leave() for _ in range(6)]
    assert waits(talk.pacer.reserve())
    talk.pacer.report(Reply("accepted", sent[0], talk.now))
    talk.leave()
    assert waits(talk.pacer.reserve())


def test_the_more_was_accepted_the_more_may_be_under_way_but_not_where_a_limit_is_likely() -> None:
    talk = Talk()
    most: dict[int, int] = {}
    for accepted in (0, 150, 199, 250, 700):
        talk.accept(accepted - talk.pacer._state.accepted)
        under_way = 0
        sent = []
        while not waits(talk.pacer.reserve()):
            talk.now += 0.1
            talk.pacer.sent(talk.now)
            sent.append(talk.now)
            under_way += 1
            if under_way > 200:
                break
        most[accepted] = under_way
        for at in sent:
            talk.pacer.report(Reply("failed", at, talk.now))
    assert most[0] == 6
    assert most[150] == 33
    assert most[199] == 5  # 200 is a likely limit
    assert 50 <= most[250] <= 55
    assert most[700] >= 100


def test_a_failure_is_no_acceptance_and_no_refusal() -> None:
    talk = Talk()
    sent = talk.leave()
    talk.pacer.report(Reply("failed", sent, sent + 0.001))
    assert (talk.limit, talk.pause) == (None, 0.0)


# Learn.


@pytest.mark.parametrize("per", [1.0, 60.0, 3_600.0, 86_400.0])
def test_the_window_is_the_one_that_explains_the_retry_after(per: float) -> None:
    talk = Talk()
    first = talk.now + 0.1 * per / 28
    talk.spend(14, seconds=0.1 * per)
    talk.now += 0.4 * per
    talk.spend(6, seconds=0.1 * per)
    talk.refuse(math.ceil(first + per - talk.now))
    assert talk.learned() == RateLimit(20, per)


def test_what_overtook_the_refused_request_counts_too() -> None:
    talk = Talk()
    talk.spend(44, seconds=0.5)
    refused = talk.now
    later = [refused + 0.0005 * number for number in range(1, 7)]  # accepted before it, by threads
    for at in (refused, *later):
        talk.pacer.sent(at)
    talk.now += ROUND_TRIP
    talk.pacer.report(Reply("refused", refused, talk.now, 1.0, 1.0))
    for at in later:
        talk.pacer.report(Reply("accepted", at, talk.now + 0.01))
    assert talk.learned() == RateLimit(50)


def test_a_handful_that_got_through_in_no_time_is_no_limit_yet() -> None:
    talk = Talk()
    talk.spend(3, seconds=0.1)
    talk.refuse(1.0)
    assert talk.learned() == RateLimit(3)
    assert talk.hold(8.0).requests >= 12


def test_without_a_retry_after_it_asks_soon_and_who_lets_it_through_then_is_a_bucket() -> None:
    talk = Talk()
    talk.spend(3, seconds=0.1)
    talk.refuse(None)
    assert talk.pause <= 0.06
    assert 15 <= talk.learned().requests <= 40
    assert talk.pacer._state.flows


def test_without_a_retry_after_a_window_is_known_by_when_it_ends() -> None:
    talk = Talk()
    talk.spend(50, seconds=0.05)
    talk.refuse(None)
    while talk.now < 1_001.0:
        talk.now = max(talk.now, value(talk.pacer.reserve()))
        if talk.now < 1_001.0:
            talk.refuse(None)
    talk.pacer.sent(talk.now)
    talk.pacer.report(Reply("accepted", talk.now, talk.now + 0.001))
    assert talk.kept == RateLimit(50)
    assert not talk.pacer._state.flows


def test_a_refused_probe_teaches_nothing() -> None:
    talk = Talk()
    talk.spend(300, seconds=3.0)
    talk.refuse(57.0)
    for _ in range(3):
        talk.now = max(talk.now, value(talk.pacer.reserve()))
        talk.refuse(1.0)
    assert talk.learned() == RateLimit(300, 60.0)


def test_a_limit_named_without_its_window_is_taken_where_the_estimate_is_near() -> None:
    talk = Talk()
    talk.accept(quota=Quota(requests=48))
    assert talk.limit is None
    talk.spend(45, seconds=0.5)
    talk.refuse(1.0)
    assert talk.learned() == RateLimit(48)


def test_a_window_that_explains_a_long_wait_is_believed_where_only_a_part_of_it_is_obeyed() -> None:
    talk = Talk()
    talk.spend(100, seconds=10.0)
    sent = talk.now
    talk.now += ROUND_TRIP
    talk.pacer.sent(sent)
    talk.pacer.report(Reply("refused", sent, talk.now, 3_590.0, 120.0))
    assert 120.0 <= talk.pause <= 122.4
    talk.now = talk.pacer.paused_until
    value(talk.pacer.reserve())
    assert talk.kept == RateLimit(100, 3_600.0)


# Hold: try a little more, but only where demand reaches what is kept.


def test_after_forty_quiet_seconds_it_tries_2_percent_more_and_again_if_nobody_refuses() -> None:
    talk = holding(50)
    tries = [talk.changes() for _ in range(3)]
    assert [limit.requests for _, limit in tries] == [51, 53, 57.3]
    assert 39 < tries[0][0] < 43
    assert tries[1][0] < 3


def test_a_limit_that_demand_does_not_reach_is_not_tried() -> None:
    talk = holding(50)
    for _ in range(1_000):
        talk.now += 0.1
        talk.accept()
    assert talk.kept == RateLimit(50)


def test_a_step_may_be_less_than_a_request() -> None:
    talk = Talk()
    talk.spend(5, seconds=0.9)
    talk.refuse(6.0)  # so long that a first estimate is not doubted
    talk.now = talk.pacer.paused_until
    assert talk.learned() == RateLimit(5)
    assert talk.changes()[1] == RateLimit(5.1)


def test_a_failed_try_goes_back() -> None:
    talk = holding(50)
    assert talk.changes()[1] == RateLimit(51)
    talk.refuse()
    assert talk.learned() == RateLimit(50)
    after, limit = talk.changes()
    assert after > 39
    assert limit == RateLimit(51)


def test_a_limit_that_rose_is_found_within_a_minute() -> None:
    talk = holding(30)
    assert talk.hold(60.0).requests >= 75


def test_where_a_refusal_costs_30_seconds_the_first_try_comes_after_25_times_that() -> None:
    talk = Talk()
    talk.spend(5, seconds=0.9)
    talk.refuse(30.0)
    assert talk.learned() == RateLimit(5)
    after, limit = talk.changes()
    assert after > 740
    assert limit == RateLimit(5.1)


# Hold: refusals although the limit was kept.


def test_a_refusal_at_the_kept_rate_leaves_more_room_first_and_gives_way_then() -> None:
    talk = holding(50)
    rates: list[float] = []
    for _ in range(4):
        talk.hold(2.5)
        talk.refuse()
        talk.learned()
        rate = talk.pacer.pace().rate
        assert rate is not None
        rates.append(rate)
    assert rates[0] == pytest.approx(50 / 1.02)
    assert rates[1] == pytest.approx(50 / 1.05)
    assert rates[2] < rates[1]
    assert rates[3] < rates[2]


def test_after_a_refusal_at_the_kept_rate_nothing_is_caught_up() -> None:
    talk = holding(50)
    talk.hold(4.0)
    talk.refuse()
    talk.learned()
    talk.now += 0.019
    late = talk.leave()
    assert talk.leave() >= late + 0.02


def test_the_grid_starts_anew_at_the_probes_reply() -> None:
    talk = holding(50)
    talk.hold(4.0)
    talk.refuse()
    probe = talk.leave()
    talk.now = probe + 0.06
    talk.pacer.report(Reply("accepted", probe, talk.now))
    assert talk.leave() >= probe + 0.06 + 0.02


def after_a_burst(accepted: int) -> tuple[float, float, float]:
    """The rate of the first estimate, then the one after so many and a refusal, then what is tried."""
    talk = Talk()
    talk.spend(50, seconds=0.5)
    talk.refuse(retry_after=None)
    first = talk.learned()
    talk.accept(accepted)
    talk.refuse(retry_after=None)
    lowered = talk.learned()
    _, tried = talk.changes()
    return first.rate, lowered.rate, tried.rate


def test_what_is_refused_right_after_the_first_burst_is_no_upper_bound() -> None:
    first, lowered, tried = after_a_burst(accepted=2)
    assert lowered < first
    assert tried == pytest.approx(2 * lowered)


def test_where_nearly_all_got_through_the_first_refusal_is_an_upper_bound() -> None:
    first, lowered, tried = after_a_burst(accepted=40)
    assert lowered < tried < first


def test_an_announced_limit_is_not_doubted_on_a_clock_that_has_just_begun() -> None:
    talk = Talk()
    talk.now = 5.0
    talk.accept(quota=Quota(requests=1_000, per=3_600.0))
    talk.spend(400, seconds=100.0)
    talk.refuse(retry_after=None)
    kept = talk.learned()
    assert talk.hold(6 * 3_600).rate < 1.5 * kept.rate


def test_a_limit_that_has_dropped_is_taken_from_what_was_accepted() -> None:
    talk = holding(100)
    talk.hold(5.0)
    for _ in range(3):
        talk.spend(19, seconds=0.2)  # and the one that went first after the pause
        talk.refuse()
        talk.accept()
    assert talk.kept == RateLimit(20)


def test_another_window_than_the_known_one_is_learned_anew() -> None:
    talk = holding(10)
    talk.now += 100.0
    talk.spend(200, seconds=20.0)
    talk.refuse(40.0)
    assert talk.learned() == RateLimit(200, 60.0)


# What header fields say.


def test_an_announced_limit_is_taken_over_at_once_and_never_tried() -> None:
    talk = Talk()
    talk.accept(quota=Quota(requests=100, per=1.0, remaining=99, reset=1.0))
    assert talk.hold(100.0) == RateLimit(100)


def test_an_announced_limit_is_news_only_once() -> None:
    talk = Talk()
    quota = Quota(requests=100, per=1.0)
    talk.accept(quota=quota)
    for _ in range(2):
        talk.now += 1.0
        talk.spend(50)
        talk.refuse(quota=quota)
        talk.accept()
    assert talk.kept == RateLimit(50)
    talk.accept(quota=quota)
    assert talk.kept == RateLimit(50)
    talk.accept(quota=Quota(requests=70, per=1.0))
    assert talk.limit == RateLimit(70)


@pytest.mark.parametrize("quota", [Quota(), Quota(per=1.0), Quota(requests=0, per=1.0)])
def test_half_an_announcement_is_none(quota: Quota) -> None:
    talk = Talk()
    talk.accept(quota=quota)
    assert talk.limit is None


def test_nothing_remaining_stops_the_ramp_before_the_first_refusal() -> None:
    talk = Talk()
    talk.spend(19, seconds=0.9)
    talk.accept(quota=Quota(remaining=0, reset=1.0))
    assert 0.9 < talk.pause < 1.1
    assert talk.limit is None
    assert talk.learned() == RateLimit(20)


def test_once_a_limit_is_known_nothing_remaining_is_no_news() -> None:
    talk = holding(50)
    talk.accept(quota=Quota(remaining=0, reset=30.0))
    assert talk.pause == 0.0


def test_a_remaining_that_a_429_contradicts_is_distrusted_from_then_on() -> None:
    talk = Talk()
    talk.accept()
    talk.refuse(quota=Quota(remaining=3))
    talk.pacer.report(
        Reply("accepted", talk.now - 1, talk.now, quota=Quota(remaining=0, reset=900.0))
    )
    assert talk.pause < 2.0


def test_a_429_without_a_retry_after_waits_for_the_reset() -> None:
    talk = Talk()
    talk.accept(5)
    talk.refuse(None, quota=Quota(remaining=0, reset=7.0))
    assert 6.9 < talk.pause < 7.2
    other = Talk()
    other.accept(5)
    other.refuse(1.0, quota=Quota(remaining=0, reset=7.0))
    assert other.pause < 1.1  # what the 429 itself says comes first


# Pauses.


def test_a_server_that_is_busy_gets_its_pause_and_teaches_no_limit() -> None:
    talk = Talk()
    talk.accept(20)
    sent = talk.leave()
    talk.now = sent + ROUND_TRIP
    talk.pacer.report(Reply("busy", sent, talk.now, 10.0, 10.0))
    assert 10.0 <= talk.pause <= 10.2
    assert talk.leave() >= sent + ROUND_TRIP + 10.0
    assert talk.limit is None


def test_after_a_pause_one_request_goes_and_the_others_wait_for_its_reply() -> None:
    talk = holding(50)
    talk.refuse(5.0)
    probe = value(talk.pacer.reserve())
    assert probe >= talk.pacer.paused_until > talk.now + 4.9
    assert waits(talk.pacer.reserve())
    talk.now = probe
    talk.pacer.sent(probe)
    assert waits(talk.pacer.reserve())
    talk.pacer.report(Reply("accepted", probe, probe + 0.05))
    assert talk.leave() > probe


def test_it_takes_the_monotonic_clock() -> None:
    assert value(LearningPacer().reserve()) > 0
