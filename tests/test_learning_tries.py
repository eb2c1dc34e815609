"""When more is tried than what is kept, and what a first estimate is: each rule alone."""

from __future__ import annotations

import math

import pytest
from msgspec.structs import replace

from hilos_async import Reply
from hilos_async._pace import limits, reckoning, slots
from hilos_async._pace.pacer import Quota
from hilos_async._pace.state import Refusal, State

NOW = 1_000.0


def kept(requests: float = 50.0, **known: object) -> State:
    """A state that keeps so many a second since NOW, and has asked for all of them all the time."""
    return replace(State(requests=requests, stepped=NOW, waited=1_000), **known)


def step(s: State, after: float, share: float = 1.0) -> float:
    """Use that share of the slots for so long; what is kept then."""
    s.accepted = s.stepped_at + math.ceil(round(share * after / slots.interval(s), 6))
    s.waited = 1_000
    limits.step(s, s.stepped + after)
    return s.requests


# When.


@pytest.mark.parametrize("flows", [False, True])
def test_a_try_comes_after_the_patience_and_the_next_after_one_and_a_half_windows(
    flows: bool,
) -> None:
    s = kept(sure=True, flows=flows, patience=40.0)
    assert step(s, 39.9) == 50.0
    assert step(s, 40.1) == 51.0
    assert (s.before, s.low) == (50.0, 50.0)
    assert step(s, 1.4) == 51.0
    assert step(s, 1.6) == pytest.approx(51.0 * 1.04)


def test_what_is_not_sure_is_doubled_after_a_window_while_no_upper_bound_is_known() -> None:
    s = kept()
    assert step(s, 0.95) == 50.0
    assert step(s, 1.05) == 100.0
    assert s.low == 50.0


def test_what_is_not_sure_goes_to_the_middle_of_its_bounds_until_they_meet() -> None:
    s = kept(50.0, high=100.0)
    assert step(s, 1.05) == 75.0
    assert s.low == 50.0
    found = [step(s, 1.05) for _ in range(5)]
    assert found == sorted(found)
    assert s.sure
    assert 95.0 < s.requests < 100.0


def test_the_middle_may_be_a_round_number_within_a_quarter_of_what_lies_between() -> None:
    assert step(kept(60.0, high=110.0), 1.05) == 75.0  # not 100


def test_a_limit_of_less_than_a_second_is_kept_for_a_second_at_least() -> None:
    s = kept(25.0, per=0.5)
    assert step(s, 0.95) == 25.0
    assert step(s, 1.05) == 50.0


def test_a_limit_of_one_in_a_second_is_kept_for_three_slots_at_least() -> None:
    s = kept(1.0)
    assert step(s, 2.9) == 1.0
    assert step(s, 3.1) == 2.0


@pytest.mark.parametrize(
    ("sure", "flows", "least"),
    [(True, False, 0.95), (True, True, 0.8), (False, False, 0.8), (False, True, 0.8)],
)
def test_more_is_tried_only_where_95_percent_were_used_or_80_where_nothing_is_caught_up(
    sure: bool, flows: bool, least: float
) -> None:
    s = kept(sure=sure, flows=flows)
    assert step(s, 50.0, least - 0.01) == 50.0
    assert step(s, 50.0, least + 0.01) > 50.0


def test_what_is_under_way_counts_as_used() -> None:
    assert step(kept(sure=True), 40.1, 0.946) == 50.0
    assert step(kept(sure=True, flying=[NOW] * 10), 40.1, 0.946) == 51.0


@pytest.mark.parametrize(
    ("requests", "waited", "is_tried"),
    [(50.0, 49, False), (50.0, 50, True), (1.0, 1, False), (1.0, 2, True)],
)
def test_more_is_tried_only_after_as_many_in_a_row_had_to_wait_and_two_at_least(
    requests: float, waited: int, is_tried: bool
) -> None:
    s = kept(requests, sure=True, accepted=10_000)
    s.waited = waited
    limits.step(s, NOW + 100.0)
    assert (s.requests > requests) == is_tried


def test_after_a_step_demand_is_counted_anew() -> None:
    s = kept()
    step(s, 1.05)
    assert (s.waited, s.stepped_at, s.stepped) == (0, s.accepted, NOW + 1.05)


def test_what_went_well_for_two_windows_is_a_lower_bound() -> None:
    s = kept(sure=True, low=40.0)
    step(s, 1.9)
    assert s.low == 40.0
    step(s, 2.1)
    assert s.low == 50.0


# How much, and how long it is waited then.


def test_each_try_in_a_row_is_twice_as_large_up_to_a_half() -> None:
    s = kept(sure=True, flows=True)
    shares: list[float] = []
    for _ in range(7):
        was = s.requests
        shares.append(round(step(s, 40.1) / was - 1, 9))
    assert shares == [0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.5]


@pytest.mark.parametrize(
    ("flows", "per", "patience"), [(True, 1.0, 10.0), (False, 1.0, 40.0), (False, 60.0, 60.0)]
)
def test_only_the_third_try_in_a_row_shows_that_the_limit_rose_and_lets_more_be_tried_soon(
    flows: bool, per: float, patience: float
) -> None:
    s = kept(sure=True, flows=flows, per=per, patience=320.0)
    found: list[float] = []
    for _ in range(3):
        step(s, 321.0)
        found.append(s.patience)
    assert found == [320.0, 320.0, patience]


# A first estimate.


def meet(
    through: int,
    seconds: float,
    retry_after: float | None = None,
    silent: float = 0.02,
    named: float = 0.0,
) -> State:
    """So many get through in that time, one is refused, and the next one so long after it is not."""
    s = State(named=named)
    for number in range(through):
        at = NOW + number * seconds / through
        reckoning.left(s, at)
        reckoning.report(s, Reply("accepted", at, at), 0.0)
    end = NOW + seconds
    reckoning.report(s, Reply("refused", end, end, retry_after, retry_after), 0.0)
    reckoning.report(s, Reply("accepted", end + silent, end + silent), 0.0)
    return s


@pytest.mark.parametrize(
    ("through", "sure"), [(20, False), (25, True), (30, True), (31, False), (100, True)]
)
def test_a_first_estimate_is_believed_if_it_is_a_round_number_from_25(
    through: int, sure: bool
) -> None:
    s = meet(through, 0.8, retry_after=1.0, silent=1.0)
    assert (s.requests, s.sure) == (float(through), sure)


def test_a_first_estimate_is_believed_if_a_header_named_it() -> None:
    assert not meet(17, 0.8, retry_after=1.0, silent=1.0).sure
    assert meet(17, 0.8, retry_after=1.0, silent=1.0, named=17.0).sure


@pytest.mark.parametrize(("cost", "sure"), [(4.9, False), (5.1, True)])
def test_a_first_estimate_is_believed_where_another_refusal_costs_more_than_5_seconds(
    cost: float, sure: bool
) -> None:
    assert meet(17, 0.8, retry_after=cost, silent=cost).sure == sure


def test_a_bucket_is_asked_at_three_times_the_rate_of_the_first_answer_at_most() -> None:
    # Half a second after the refusal one more got through: two a second flow in, at least.
    s = meet(40, 0.4, silent=0.5)
    assert (s.flows, s.sure, s.requests) == (True, False, 6.0)
    s = meet(4, 1.0, silent=0.5)
    assert s.flows
    assert 4.0 <= s.requests < 6.0


def test_before_a_bucket_more_is_tried_after_10_seconds_as_a_refusal_costs_a_moment() -> None:
    assert meet(40, 0.4).patience == 10.0


def test_an_estimate_begins_anew() -> None:
    s = meet(40, 0.4)
    for name in ("low", "high", "before", "mean", "seen", "early", "pad"):
        setattr(s, name, 7)
    at, s.first = s.until + 100.0, s.until + 80.0
    for number in range(300):
        when = s.first + number / 15
        reckoning.report(s, Reply("accepted", when, when), 0.0)
    reckoning.report(s, Reply("refused", at, at, 40.0, 40.0), 0.0)  # of a window of a minute
    reckoning.report(s, Reply("accepted", at + 40.0, at + 40.0), 0.0)
    assert (s.requests, s.per, s.flows) == (300.0, 60.0, False)
    assert (s.low, s.high, s.before, s.mean, s.seen) == (0.0, 0.0, 0.0, 0.0, 0.0)
    assert (s.early, s.pad, s.met) == (False, 0, at + 40.0)


def test_a_window_that_is_learned_recalls_the_replies_that_lie_in_it_and_a_bucket_needs_none() -> (
    None
):
    s = meet(30, 0.8, retry_after=1.0, silent=1.0)
    assert len(s.replies) == 30
    assert not meet(30, 0.8).replies


@pytest.mark.parametrize(("per", "cost", "patience"), [(1, 0, 40), (60, 0, 60), (1, 30, 750)])
def test_a_windows_first_try_comes_after_40_seconds_or_a_window_or_25_times_its_cost(
    per: float, cost: float, patience: float
) -> None:
    s = State()
    limits._take(s, NOW, 50, per, cost)
    assert s.patience == patience


@pytest.mark.parametrize(
    ("least", "most", "named", "likely"),
    [
        (48.0, 52.0, 0.0, 50.0),
        (14.0, 38.0, 0.0, 30.0),  # a round step is no larger than half the number
        (46.2, 47.9, 0.0, 47.0),
        (46.2, 46.9, 0.0, 46.9),
        (2.0, 9.0, 0.0, 5.0),
        (1.0, 4.0, 0.0, 2.0),
        (3.0, 4.0, 0.0, 3.0),
        (7.0, 8.0, 0.0, 8.0),
        (0.3, 0.5, 0.0, 0.4),
        (50.0, 60.0, 40.0, 40.0),  # a header's number, if it is near
        (50.0, 60.0, 39.0, 50.0),
        (50.0, 60.0, 75.0, 75.0),
        (50.0, 60.0, 76.0, 50.0),
    ],
)
def test_the_likeliest_number_is_a_headers_or_the_roundest_or_the_most(
    least: float, most: float, named: float, likely: float
) -> None:
    assert limits._likely(State(named=named), least, most) == likely


@pytest.mark.parametrize(("first", "requests"), [(NOW - 0.99, 47.0), (NOW - 1.001, 45.0)])
def test_what_a_window_let_through_is_exact_unless_a_request_lies_on_its_edge(
    first: float, requests: float
) -> None:
    # Three overtook the refused one: they count, and surely so only if nothing lies on the edge.
    log = [(first, first + 0.005, 1), *((NOW - 0.5, NOW - 0.4, 1) for _ in range(43))]
    log += [(NOW - 0.012, NOW - 0.001, 1)] * 3
    s = State(log=log, first=first, refused=Refusal(NOW - 0.01, NOW, 1.0, NOW - 0.01, 0))
    limits.conclude(s, NOW, None)
    assert (s.requests, s.per) == (requests, 1.0)


# What header fields say.


def test_an_announced_limit_ends_tries_and_bounds_of_the_one_before() -> None:
    s = kept(51.0, before=50.0, flows=True, met=NOW, early=True)
    reckoning.report(s, Reply("accepted", NOW, NOW, quota=Quota(requests=80, per=1.0)), 0.0)
    assert (s.requests, s.sure, s.flows, s.before) == (80.0, True, False, 0.0)
    assert (s.met, s.early) == (0.0, False)  # nobody estimated it: no burst is put down to it
    assert step(s, 1_000.0) == 80.0


def test_a_wait_that_nobody_obeys_has_no_slot_before_its_end_if_a_window_explains_it() -> None:
    for retry_after, waits in ((3_590.0, True), (2_000.0, False)):
        s = State()
        reckoning.report(s, Reply("accepted", NOW, NOW), 0.0)
        s.first = NOW
        reckoning.report(s, Reply("refused", NOW + 10, NOW + 10, retry_after, 0.0), 0.0)
        assert s.until == NOW + 10
        slot = reckoning.reserve(s, NOW + 10)
        assert slot == (NOW + 10 + retry_after if waits else NOW + 10)
