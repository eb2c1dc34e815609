"""What a refusal says of a limit that is kept already: each rule alone."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hilos_async import Reply
from hilos_async._pace import reckoning
from hilos_async._pace.state import State

NOW = 1_000.0


def bucket(requests: float = 50.0, **known: object) -> State:
    """A state that keeps so many a second before a bucket; the last refusal was just now."""
    return kept(requests, flows=True, **known)


def window(requests: float = 50.0, **known: object) -> State:
    """A state that keeps so many a second before a limiter that counts in windows."""
    return kept(requests, flows=False, **known)


def kept(requests: float, **known: object) -> State:
    return replace(State(requests=requests, first=NOW, emptied=NOW, stepped=NOW - 100.0), **known)


def refuse(s: State, through: int, seconds: float, retry_after: float | None = None) -> State:
    """So many get through in that time since the last refusal, then one is refused, the next is not.

    The one that went first after the last pause is the first of them.
    """
    begin, end = s.emptied, s.emptied + seconds
    for number in range(s.since, through):
        at = begin + (number + 0.5) * seconds / through
        reckoning.report(s, Reply("accepted", at, at), 0.0)
    reckoning.report(s, Reply("refused", end, end, retry_after, retry_after), 0.0)
    reckoning.report(s, Reply("accepted", s.until, s.until), 0.0)
    return s


def refuse_at(s: State, rate: float, through: int = 20) -> State:
    """The same, and what gets through comes at that rate."""
    return refuse(s, through, through / rate)


# The aftermath: for about one window after an estimate, the server may still count the first burst.


@pytest.mark.parametrize(
    ("through", "rate", "high"),
    [
        (10, 35.5, 50.0),
        (10, 34.5, 0.0),  # too slow
        (9, 40.0, 0.0),  # too few
        (10, 49.5, 50.0),
        (10, 50.5, 0.0),  # more than what is kept: part of a burst
    ],
)
def test_soon_after_an_estimate_ten_at_70_to_100_percent_of_it_show_an_upper_bound(
    through: int, rate: float, high: float
) -> None:
    s = refuse_at(bucket(met=NOW), rate, through)
    assert (s.high, s.early) == (high, not high)


@pytest.mark.parametrize(("after", "high"), [(1.09, 0.0), (1.11, 50.0)])
def test_the_aftermath_of_an_estimate_ends_after_1_1_windows(after: float, high: float) -> None:
    assert refuse(bucket(met=NOW), 2, after).high == high


def test_where_no_estimate_was_made_there_is_no_aftermath() -> None:
    s = bucket(first=0.1, emptied=0.1, met=0.0)  # a clock that has just begun
    assert refuse(s, 2, 0.5).high == 50.0


def test_after_one_refusal_of_the_aftermath_all_are_put_down_to_it_until_it_is_over() -> None:
    s = refuse(bucket(met=NOW), 2, 0.1)
    lowered = s.requests
    refuse_at(s, 0.8 * lowered, through=10)  # alone it would show an upper bound
    assert s.emptied < NOW + 1.1
    assert (s.early, s.high) == (True, 0.0)
    refuse_at(s, 0.8 * s.requests, through=20)
    assert s.emptied > NOW + 1.1
    assert not s.early
    assert s.high > 0


@pytest.mark.parametrize(
    ("met", "retry_after", "sure"), [(NOW, None, False), (NOW, 1.0, True), (0.0, None, True)]
)
def test_a_drop_in_the_aftermath_is_sure_only_if_a_retry_after_confirms_it(
    met: float, retry_after: float | None, sure: bool
) -> None:
    s = refuse(window(met=met, sure=True), 20, 1.0, retry_after)
    assert (s.requests, s.sure) == (20.0, sure)


# A limit that dropped, or that somebody else draws on as well.


def test_what_a_window_let_through_is_the_limit_if_it_is_less_than_what_is_kept() -> None:
    assert refuse(window(sure=True), 48, 1.0).requests == 48.0
    assert refuse(window(sure=True), 49, 1.0).requests == 50.0  # 97 % of it and more is the same


@pytest.mark.parametrize(("after", "requests"), [(0.4, 45.0), (0.6, 39.0)])
def test_a_drop_at_once_after_a_step_up_is_doubted(after: float, requests: float) -> None:
    # It may be a bucket without a burst. So only the upper bound is lowered.
    s = window(low=40.0, stepped=NOW + 1.0 - after)
    assert refuse(s, 39, 1.0).requests == requests


@pytest.mark.parametrize(("then", "requests"), [(39, 39.0), (41, 41.0), (38, 50.0), (42, 50.0)])
def test_a_drop_below_what_went_well_is_believed_the_second_time(
    then: int, requests: float
) -> None:
    s = refuse(window(sure=True, low=50.0), 40, 1.0)
    assert s.requests == 50.0
    s.since, s.emptied = 0, s.emptied + 10.0  # the one that went first is in no window any more
    assert refuse(s, then, 1.0).requests == requests


@pytest.mark.parametrize(("most", "requests"), [(12, 50.0), (13, 13.0)])
def test_a_drop_to_less_than_a_quarter_is_doubted(most: int, requests: float) -> None:
    assert refuse(window(sure=True), most, 1.0).requests == requests


def test_a_doubted_drop_to_next_to_nothing_confirms_no_other_before_the_limit_is_sure() -> None:
    assert refuse(window(sure=True), 12, 1.0).seen == 12.0
    assert refuse(window(), 12, 1.0).seen == 0.0


@pytest.mark.parametrize(("most", "pad"), [(48, 2), (47, 0)])
def test_a_drop_ends_the_padding_unless_it_is_only_what_the_padding_left(
    most: int, pad: int
) -> None:
    s = refuse(window(sure=True, pad=2, padded=NOW), most, 1.0)
    assert (s.requests, s.pad) == (float(most), pad)


def test_what_a_bucket_let_through_in_a_window_is_no_limit() -> None:
    assert refuse(bucket(sure=True), 30, 1.0).requests == pytest.approx(49.0)


# It flows after all: what got through between two refusals is the same, however fast was asked.


@pytest.mark.parametrize(
    ("rate", "through", "flows"),
    [(30.87, 20, True), (30.98, 20, False), (30.0, 10, True), (30.0, 9, False)],
)
def test_what_got_through_twice_within_3_percent_is_what_a_bucket_lets_flow_in(
    rate: float, through: int, flows: bool
) -> None:
    s = refuse_at(bucket(low=50.0, mean=30.0, mean_at=50.0), rate, through)
    assert s.sure == flows
    assert s.requests == pytest.approx(rate, rel=0.01 if flows else 0.03)


@pytest.mark.parametrize(("mean_at", "requests"), [(55.5, 30.0), (54.5, 20.0), (44.5, 30.0)])
def test_a_window_flows_after_all_only_if_it_was_asked_at_rates_10_percent_apart(
    mean_at: float, requests: float
) -> None:
    s = refuse_at(window(mean=30.0, mean_at=mean_at), 30.0)
    assert s.requests == requests


def test_of_equal_means_the_first_stays_the_reference_while_the_rate_creeps() -> None:
    s = window(54.0, mean=30.0, mean_at=60.0)
    refuse_at(s, 30.3)
    assert (s.mean, s.mean_at) == (30.0, 60.0)
    refuse_at(s, 25.0)
    assert s.mean == pytest.approx(25.0, rel=0.01)
    assert s.mean_at < 60.0


@pytest.mark.parametrize(("low", "requests"), [(49.0, 40.0), (50.0, 50.0)])
def test_a_window_that_went_well_for_a_time_does_not_flow(low: float, requests: float) -> None:
    s = refuse_at(window(sure=True, low=low, mean=40.0, mean_at=60.0), 40.0, through=60)
    assert s.requests == requests


@pytest.mark.parametrize(("low", "flows"), [(49.1, True), (48.9, False)])
def test_before_a_bucket_that_tells_only_where_what_had_gone_well_was_a_burst(
    low: float, flows: bool
) -> None:
    s = refuse_at(bucket(low=low, mean=30.0, mean_at=50.0), 30.0)
    assert (s.requests == 30.0) == flows


@pytest.mark.parametrize(
    ("rate", "flows"), [(19.5, False), (20.5, True), (48.2, True), (48.6, False)]
)
def test_what_flows_in_is_two_fifths_of_what_is_kept_or_more_but_not_nearly_all(
    rate: float, flows: bool
) -> None:
    s = refuse_at(bucket(low=50.0, mean=rate, mean_at=50.0), rate)
    assert s.sure == flows


# The bounds.


@pytest.mark.parametrize(("rate", "requests"), [(21.0, 21.0), (19.0, 25.0)])
def test_where_a_burst_was_taken_for_the_limit_what_flowed_in_is_the_limit_or_half(
    rate: float, requests: float
) -> None:
    s = refuse_at(bucket(low=50.0), rate)
    assert (s.low, s.high, s.requests) == (0.0, 50.0, requests)


@pytest.mark.parametrize(("requests", "sure"), [(52.0, True), (52.2, False)])
def test_bounds_within_4_percent_have_met(requests: float, sure: bool) -> None:
    s = refuse(window(requests, low=50.0), 51, 1.0)
    assert s.sure == sure
    assert s.requests == 50.0 if sure else 50.0 < s.requests < requests


@pytest.mark.parametrize(
    ("low", "requests", "sure"), [(50.0, 54.0, True), (50.0, 54.5, False), (47.0, 50.0, False)]
)
def test_before_a_bucket_bounds_within_8_percent_have_met_if_the_lower_is_round(
    low: float, requests: float, sure: bool
) -> None:
    assert refuse_at(bucket(requests, low=low), 40.0).sure == sure


def test_before_a_window_a_round_lower_bound_is_none_of_the_kind() -> None:
    assert not refuse(window(54.0, low=50.0), 53, 1.0).sure


# A refusal of what was only tried.


@pytest.mark.parametrize(
    ("patience", "later"),
    [(10.0, [20.0, 40.0, 40.0]), (40.0, [40.0]), (750.0, [1_500.0, 3_000.0, 3_600.0, 3_600.0])],
)
def test_the_next_try_comes_after_twice_the_time_up_to_40_seconds_or_where_it_costs_an_hour(
    patience: float, later: list[float]
) -> None:
    s = bucket(sure=True, patience=patience)
    found: list[float] = []
    for _ in later:
        s.requests, s.before = 51.0, 50.0
        refuse_at(s, 40.0)
        assert s.requests == 50.0
        found.append(s.patience)
    assert found == later


@pytest.mark.parametrize(("tried", "sure"), [(51.9, True), (52.1, False)])
def test_a_failed_try_leaves_its_bounds_and_they_have_met_within_4_percent(
    tried: float, sure: bool
) -> None:
    s = refuse_at(bucket(tried, sure=True, before=50.0), 40.0)
    assert (s.requests, s.low, s.high, s.sure) == (50.0, 50.0, tried, sure)
    assert s.before == 0.0


@pytest.mark.parametrize(("most", "requests"), [(45, 50.0), (44, 44.0)])
def test_a_window_that_let_through_much_less_than_before_was_not_refused_for_the_try(
    most: int, requests: float
) -> None:
    assert refuse(window(51.0, sure=True, before=50.0), most, 1.0).requests == requests


def test_after_any_refusal_the_next_try_begins_with_2_percent() -> None:
    assert refuse(window(58.0, sure=True, before=54.0, more=0.08), 30, 1.0).more == 0.02


# A refusal although a limit is kept that is sure.


def test_before_a_bucket_only_the_rate_is_lowered_and_no_padding_put_on_top() -> None:
    s = refuse_at(bucket(sure=True), 40.0)
    assert (s.requests, s.pad) == (49.0, 0)
    s = refuse(window(sure=True), 50, 1.0)
    assert (s.requests, s.pad) == (50.0, 1)


@pytest.mark.parametrize(
    ("through", "retry_after", "requests"),
    [(98, None, 49.0), (102, None, 50.0), (102, 1.0, 49.0)],
)
def test_a_refusal_that_costs_less_than_a_hundredth_is_left_as_it_is(
    through: int, retry_after: float | None, requests: float
) -> None:
    s = refuse(bucket(sure=True), through, through / 40.0, retry_after)
    assert s.requests == requests


def test_before_a_bucket_it_gives_way_by_twice_as_much_if_fewer_than_ten_got_through() -> None:
    s = bucket(sure=True)
    shares: list[float] = []
    for through in (20, 9, 9, 10, 9, 9, 9, 9, 9, 9):
        was = s.requests
        refuse_at(s, 40.0, through)
        shares.append(round(1 - s.requests / was, 9))
    assert shares == [0.02, 0.04, 0.08, 0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.5]


@pytest.mark.parametrize(("after", "share"), [(19, 0.04), (21, 0.02)])
def test_before_a_window_it_gives_way_by_twice_as_much_within_20_windows(
    after: int, share: float
) -> None:
    s = window(sure=True, pad=2, padded=NOW, stepped=NOW)
    refuse(s, 50 * after, float(after), retry_after=1.0)
    assert s.requests == pytest.approx(50.0 * (1 - share))
    assert s.pad == 2


# What a refusal leaves behind for the next.


def test_the_rate_of_what_got_through_is_remembered_with_what_was_kept_unless_it_was_too_few() -> (
    None
):
    s = refuse_at(bucket(), 40.0)
    assert s.mean == pytest.approx(40.0)
    assert s.mean_at == 50.0
    kept_then = s.requests
    refuse_at(s, 40.0, through=9)
    assert (s.mean, s.mean_at) == (0.0, kept_then)


def test_what_got_through_although_it_was_under_way_at_the_refusal_counts_to_the_next_time() -> (
    None
):
    s = bucket(sure=True)
    for number in range(20):
        reckoning.report(s, Reply("accepted", NOW + number / 40, NOW + number / 40), 0.0)
    reckoning.report(s, Reply("refused", NOW + 0.5, NOW + 0.5), 0.0)
    reckoning.report(s, Reply("accepted", NOW + 0.5, NOW + 0.501), 0.0)  # beside it
    reckoning.report(s, Reply("accepted", s.until, s.until), 0.0)
    assert (s.since, s.emptied) == (2, NOW + 0.5)
