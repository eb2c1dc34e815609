"""Which window a limiter counts in, as far as its refusals tell: each rule alone, without chance."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hilos_async import Reply
from hilos_async._pace import limits, reckoning, windows
from hilos_async._pace.pacer import Quota
from hilos_async._pace.state import Passed, Refusal, State

NOW = 1_000.0  # when a request is refused


def seen(*ago: float, first: float | None = None, **known: object) -> State:
    """A state to which so long ago requests were accepted; the first since the last pause at `first`."""
    log = [(NOW - at, NOW - at + 0.001, 1) for at in ago]
    return replace(State(log=log, first=NOW - (first or max(ago))), **known)


def refused(retry_after: float | None = None, last: float = 0.0) -> Refusal:
    """The refusal; the last probe that was refused was sent so much later."""
    return Refusal(NOW, NOW, retry_after, NOW + last, 0)


def minute(ago: float) -> windows.Window:
    """The window of a minute that began with the request of so long ago."""
    return windows.Window(60.0, NOW - ago)


# A Retry-After.


@pytest.mark.parametrize(
    ("retry_after", "explains"), [(38.9, False), (39.1, True), (41.9, True), (42.1, False)]
)
def test_a_window_explains_a_retry_after_that_it_differs_from_by_at_most_a_second_and_a_half(
    retry_after: float, explains: bool
) -> None:
    # A minute's window that began 20 seconds ago ends in 40; as a whole number that is 40 or 41.
    found = windows.explained(seen(20, first=30), refused(retry_after))
    assert found == (minute(20) if explains else None)


@pytest.mark.parametrize(
    ("retry_after", "emptied", "explains"),
    [(37.9, NOW - 40, True), (37.7, NOW - 40, False), (37.9, 0.0, False)],
)
def test_after_a_pause_the_window_may_have_begun_earlier_by_2_percent(
    retry_after: float, emptied: float, explains: bool
) -> None:
    found = windows.explained(seen(20, first=20, emptied=emptied), refused(retry_after))
    assert found == (minute(20) if explains else None)


def test_a_request_of_before_the_last_pause_begins_only_a_window_that_is_likely() -> None:
    assert windows.explained(seen(50, 20, first=20), refused(10)) is None
    kept = seen(50, 20, first=20, requests=5.0, per=60.0)
    assert windows.explained(kept, refused(10)) == minute(50)
    assert windows.explained(kept, refused(40)) == minute(20)
    announced = seen(50, 20, first=20, announced_per=60.0)
    assert windows.explained(announced, refused(10)) == minute(50)


def test_of_two_beginnings_that_explain_it_the_nearer_one_counts() -> None:
    for retry_after, begin in ((40.2, 21), (41.6, 19)):
        found = windows.explained(seen(21, 19, first=19), refused(retry_after))
        assert found == minute(begin)


def test_a_window_that_began_after_the_pause_counts_nothing_of_before_it() -> None:
    before = [50 - n / 10 for n in range(7)]
    s = seen(*before, 20, 15, 10, 5, first=20, refused=refused(40))
    limits.conclude(s, NOW, None)
    assert (s.requests, s.per) == (4.0, 60.0)


# A guess: a first estimate that nothing explains. Maybe the Retry-After is the rest of a longer window.


def guess(number: int = 100, **known: object) -> State:
    """After so many, a wait of 30 s was asked for; that has just ended."""
    s = seen(*((n + 1) / number for n in range(number)), accepted=number, since=number)
    s.refused = replace(refused(30.0), since=number)
    limits.conclude(s, NOW + 30, NOW + 30)
    return replace(s, **known)


def test_a_first_retry_after_that_nothing_explains_leaves_a_guess_and_the_ramp_begins_anew() -> (
    None
):
    s = guess()
    assert (s.requests, s.per, s.guessed) == (100.0, 1.0, True)
    s = seen(0.5, refused=refused(1.0), ramped=9)  # a window of a second explains it
    limits.conclude(s, NOW + 1, None)
    assert (s.guessed, s.ramped) == (False, 9)
    s = seen(5, 4, refused=refused(last=5.9))  # nobody asked to wait
    limits.conclude(s, NOW + 6, NOW + 6)
    assert (s.requests > 0, s.guessed) == (True, False)


@pytest.mark.parametrize(
    ("since", "most"), [(0, 6), (65, 39), (90, 14), (100, 4), (125, 4), (126, 1_000)]
)
def test_in_a_guess_what_is_under_way_is_bounded_most_of_all_near_the_number_of_before(
    since: int, most: int
) -> None:
    s = guess()
    now = NOW + 30
    for _ in range(since):
        reckoning.left(s, now)
        reckoning.report(s, Reply("accepted", now, now), 0.0)
    lately = replace(s, ramp_since=now, ramped=1_000 if since else 0)
    under_way = 0
    while under_way < 200 and (slot := reckoning.reserve(lately, now)) is not None:
        now = slot
        reckoning.left(lately, now)
        under_way += 1
    assert under_way == min(most, 200)
    assert lately.guessed == (since <= 125)


def test_a_refusal_during_a_guess_is_learned_from_as_a_first_one() -> None:
    s = guess(first=NOW + 30, refused=Refusal(NOW + 31, NOW + 31, 1.0, NOW + 31, 7))
    s.log = [(NOW + 30 + n / 10, NOW + 30 + n / 10, 1) for n in range(1, 8)]
    limits.conclude(s, NOW + 32, NOW + 32)
    assert (s.requests, s.per, s.guessed) == (7.0, 1.0, False)


def test_an_announced_limit_is_no_guess() -> None:
    s = guess()
    reckoning.report(s, Reply("accepted", NOW + 31, NOW + 31, quota=Quota(40, 1.0)), 0.0)
    assert (s.requests, s.guessed) == (40.0, False)


def test_a_window_that_is_found_by_its_number_is_tried_as_seldom_as_its_refusals_are_costly() -> (
    None
):
    s = hundred(refused=replace(SILENT, retry_after=8.0))
    limits.conclude(s, AFTER, AFTER)
    assert (s.requests, s.per, s.patience) == (100.0, 10.0, 200.0)


# The first estimate without one.


@pytest.mark.parametrize(
    ("first", "last", "accepted", "per"),
    [
        (0.5, 0.0, 0.9, None),  # no probe was refused: no window ends just then
        (0.5, 0.0, 1.1, 1.0),
        (0.5, 0.3, 0.6, 1.0),
        (0.5, 0.504, 0.7, 1.0),  # clocks differ by a little
        (0.5, 0.507, 0.7, 2.0),
        (0.5, 0.1, 0.3, None),  # shorter than any window
        (7.5, 2.2, 2.7, 10.0),
        (3.0, 0.9, 1.1, 1.0),  # what is refused counts as well: a second from the refusal on
        (7.0, 0.0, 2.5, 10.0),  # by the clock, and met in the middle
    ],
)
def test_the_first_window_ended_between_the_last_probe_that_was_refused_and_the_next(
    first: float, last: float, accepted: float, per: float | None
) -> None:
    s = State(first=NOW - first)
    found = windows.first(s, refused(last=last), NOW + accepted)
    assert found == (windows.Window(per, NOW - per) if per else None)


def test_an_announced_window_comes_before_what_refusals_tell_and_a_wrong_retry_after_is_a_second() -> (
    None
):
    assert windows.first(State(announced_per=7.0), refused(), NOW + 0.1) == (7.0, NOW - 7)
    assert windows.first(State(first=NOW - 8), refused(2.0), NOW + 2.0) == (1.0, NOW - 1)


# The same number twice: another window than the one that is kept.


def hundred(number: int = 100, seconds: float = 2.0, **known: object) -> State:
    """Fifty a second are kept, and so many got through in so long, as the last time at 30 a second."""
    s = seen(*(seconds * n / number for n in range(number, 0, -1)), requests=50.0)
    return replace(s, **({"passed": Passed(100.0, 30.0, 9.5, 11.0)} | known))


SILENT = refused(last=7.9)  # of ten seconds that begin two seconds before the refusal
AFTER = NOW + 8.1


def test_as_many_twice_at_two_rates_are_a_window_and_at_one_rate_only_too_many() -> None:
    s = hundred(refused=SILENT)
    limits.conclude(s, AFTER, AFTER)
    assert (s.requests, s.per, s.sure) == (100.0, 10.0, True)
    s = hundred(refused=SILENT, passed=Passed(100.0, 50.0, 9.5, 11.0))
    limits.conclude(s, AFTER, AFTER)
    assert (s.requests, s.per) == (37.5, 1.0)


@pytest.mark.parametrize(
    ("rate", "is_window"), [(44.5, True), (45.5, False), (54.5, False), (56, True)]
)
def test_two_rates_are_10_percent_apart(rate: float, is_window: bool) -> None:
    s = hundred(passed=Passed(100.0, rate, 9.5, 11.0))
    assert windows.twice(s, SILENT, AFTER) == (100.0, 10.0, is_window)


@pytest.mark.parametrize(("last", "is_same"), [(98.0, True), (97.9, False), (102.1, False)])
def test_the_same_number_is_within_2_percent(last: float, is_same: bool) -> None:
    s = hundred(passed=Passed(last, 30.0, 9.5, 11.0))
    assert (windows.twice(s, SILENT, AFTER) is not None) == is_same


@pytest.mark.parametrize(("number", "tells"), [(9, False), (10, True)])
def test_the_same_number_below_ten_says_nothing(number: int, tells: bool) -> None:
    s = hundred(number, passed=Passed(number, 30.0, 9.5, 11.0))
    assert (windows.twice(s, SILENT, AFTER) is not None) == tells


def test_each_time_is_compared_with_the_last() -> None:
    s = hundred(passed=Passed())
    assert windows.twice(s, SILENT, AFTER) is None
    assert windows.twice(s, SILENT, AFTER) == (100.0, 10.0, False)


def test_in_the_midst_of_a_try_or_without_a_limit_the_same_number_says_nothing() -> None:
    assert windows.twice(hundred(before=49.0), SILENT, AFTER) is None
    assert windows.twice(hundred(requests=0.0), SILENT, AFTER) is None


def test_where_the_times_contradict_each_other_the_second_counts() -> None:
    s = hundred(passed=Passed(100.0, 30.0, 3.0, 4.0))  # met in the middle of a window
    assert windows.twice(s, SILENT, AFTER) == (100.0, 10.0, True)


@pytest.mark.parametrize(
    ("refusal", "tells"),
    [
        (refused(last=5.1), True),
        (refused(last=4.9), False),
        (refused(6.1), True),  # it is rounded up
        (refused(5.9), False),
    ],
)
def test_a_pause_of_less_than_half_the_window_that_is_kept_tells_of_no_longer_one(
    refusal: Refusal, tells: bool
) -> None:
    s = hundred(seconds=54.5, per=10.0, passed=Passed(100.0, 100 / 54.5, 50.0, 70.0))
    accepted = None if refusal.retry_after else NOW + 5.3
    found = windows.twice(s, refusal, accepted)
    assert found == ((100.0, 60.0, False) if tells else None)


@pytest.mark.parametrize(
    ("requests", "flows", "last", "tells"),
    [
        (200.0, False, 0.2, True),
        (100.0, False, 0.2, False),  # as much as is kept
        (100.0, True, 0.2, True),
        (200.0, False, 0.0, False),  # the first probe got through: so does a bucket's
    ],
)
def test_a_window_no_longer_than_what_is_kept_lets_less_through_and_refuses_a_probe(
    requests: float, flows: bool, last: float, tells: bool
) -> None:
    s = hundred(seconds=9.7, requests=requests, per=10.0, flows=flows)
    s.passed = Passed(100.0, 5.0, 9.5, 11.0)
    found = windows.twice(s, refused(last=last), NOW + 0.4)
    assert found == ((100.0, 10.0, True) if tells else None)


# How long that window is.


@pytest.mark.parametrize(
    ("retry_after", "last", "accepted", "per"),
    [
        (None, 7.9, 8.1, 10.0),
        (None, 8.05, 8.1, 10.0),  # a probe is on its way for a tenth of a second
        (None, 8.15, 8.2, None),
        (None, 4.0, 5.0, None),  # more than six, less than eight seconds
        (8.1, 0.0, None, 10.0),
        (5.0, 0.0, None, None),
        (2.1, 0.0, None, 5.0),  # it may have begun a second before the pause was seen to be over
    ],
)
def test_the_window_lies_between_what_was_refused_and_what_was_let_through_or_said(
    retry_after: float | None, last: float, accepted: float | None, per: float | None
) -> None:
    s = hundred(passed=Passed(100.0, 30.0, 0.0, 100.0), fastest=0.1)
    found = windows.twice(s, refused(retry_after, last), accepted and NOW + accepted)
    assert (found and found.per) == per
