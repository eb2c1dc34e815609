"""When the next request may leave, and what is remembered for it: each rule alone."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hilos_async import Reply
from hilos_async._pace import reckoning, slots, state
from hilos_async._pace.state import Refusal, State, told

NOW = 1_000.0
GAP = 0.02 * 1.004  # between two of fifty in a second


def kept(requests: float = 50.0, **known: object) -> State:
    """A state that keeps so many a second and is sure of it; its grid begins now."""
    return replace(State(requests=requests, sure=True, next=NOW), **known)


def leave(s: State, now: float, late: float = 0.0) -> float:
    """Take the next slot and leave in it, or so much later; when that was."""
    slot = reckoning.reserve(s, now)
    assert slot is not None
    at = max(now, slot) + late
    reckoning.left(s, at)
    return at


def refused(at: float, wait: float | None = None) -> Reply:
    return Reply("refused", at, at, wait, wait)


# What a late request catches up.


def test_a_window_that_is_sure_lets_a_late_request_keep_the_grid() -> None:
    s = kept()
    leave(s, NOW, late=0.015)
    assert s.next == pytest.approx(NOW + GAP)
    assert leave(s, NOW + GAP + 0.015) == NOW + GAP + 0.015
    assert s.next == pytest.approx(NOW + 2 * GAP)


@pytest.mark.parametrize(
    "s", [kept(flows=True), kept(sure=False), kept(pad=1, padded=NOW)], ids=["flows", "new", "pad"]
)
def test_nothing_is_caught_up_before_a_bucket_or_an_estimate_or_after_a_refusal(s: State) -> None:
    late = leave(s, NOW, late=0.015)
    gap = slots.interval(s)
    assert s.next == pytest.approx(late + gap)  # it counts from when the last one left,
    now = s.next + 0.003
    assert reckoning.reserve(s, now) == now  # and a slot that has gone by is none


@pytest.mark.parametrize(
    ("requests", "per", "most"),
    [
        (50.0, 1.0, 0.05),  # a twentieth of the window
        (100.0, 1.0, 0.0301),  # three slots
        (2_000.0, 1.0, 0.005),  # what a loop wakes late
    ],
)
def test_three_slots_are_caught_up_or_a_twentieth_of_the_window_or_5_milliseconds(
    requests: float, per: float, most: float
) -> None:
    for late, caught_up in ((most - 0.0002, True), (most + 0.0002, False)):
        s = kept(requests, per=per)
        assert reckoning.reserve(s, NOW + late) == (NOW if caught_up else NOW + late)


def test_a_slot_is_waited_for_if_it_is_no_later_than_a_loop_wakes() -> None:
    s = kept(flows=True)
    for late, waited in ((0.004, 1), (0.004, 2), (0.006, 0)):
        reckoning.reserve(s, s.next + late)
        assert s.waited == waited


# The bound: no window may see more than the limit.


def test_before_a_request_leaves_the_nth_newest_reply_is_a_whole_window_old() -> None:
    s = kept(5.0, replies=[NOW - 0.1 - n / 100 for n in reversed(range(5))])
    assert reckoning.reserve(s, NOW) == pytest.approx(NOW - 0.14 + 1.002)


def test_what_is_under_way_or_has_a_slot_counts_as_newer_than_any_reply() -> None:
    known = [NOW - 0.1 - n / 100 for n in reversed(range(5))]
    s = kept(5.0, replies=known, flying=[NOW - 0.05], reserved=[NOW - 0.01])
    assert reckoning.reserve(s, NOW) == pytest.approx(NOW - 0.12 + 1.002)


def test_before_a_request_leaves_the_nth_newest_under_way_has_left_a_window_ago() -> None:
    flying = [NOW - 0.3, NOW - 0.2, NOW - 0.1]
    assert reckoning.reserve(kept(2.0, flying=flying), NOW) == pytest.approx(NOW - 0.2 + 1.002)


@pytest.mark.parametrize(("replies", "way"), [(19, 0.0), (20, 0.04)])
def test_the_way_is_taken_off_once_twenty_replies_told_how_long_it_is(
    replies: int, way: float
) -> None:
    s = kept(5.0, replies=[NOW - 0.5] * 5, fastest=0.04, recent=replies)
    assert reckoning.reserve(s, NOW) == pytest.approx(NOW - 0.5 - way + 1.002)


def test_only_accepted_requests_tell_how_long_the_way_is() -> None:
    s = kept()
    reckoning.report(s, Reply("accepted", NOW, NOW + 0.04), 0.0)
    reckoning.report(s, Reply("failed", NOW, NOW + 0.001), 0.0)
    reckoning.report(s, Reply("refused", NOW, NOW + 0.001), 0.0)
    assert slots.trip(s) == pytest.approx(0.04)


def test_a_failed_request_may_have_been_counted_and_a_refused_one_was_not() -> None:
    s = kept()
    reckoning.report(s, Reply("failed", NOW, NOW + 0.1), 0.0)
    reckoning.report(s, refused(NOW + 0.2), 0.0)
    assert s.replies == [NOW + 0.1]


def test_a_slow_reply_pushes_a_later_request_back_by_half_a_window_at_most() -> None:
    s = kept()
    reckoning.report(s, Reply("accepted", NOW, NOW + 0.4), 0.0)
    reckoning.report(s, Reply("accepted", NOW + 0.1, NOW + 9.0), 0.0)
    assert s.replies == [NOW + 0.4, NOW + 0.6]


def test_what_the_bound_pushed_back_is_caught_up_within_a_fifth_of_the_window() -> None:
    s = kept(5.0, replies=[NOW - 0.1] * 5)
    pushed_to = NOW - 0.1 + 1.002
    assert reckoning.reserve(s, NOW) == pytest.approx(pushed_to)
    assert s.next == pytest.approx(pushed_to - 0.2 + slots.interval(s))


# What is lost.


@pytest.mark.parametrize(("after", "reserved"), [(0.95, 2), (1.05, 1)])
def test_a_slot_that_nobody_used_is_lost_after_a_second(after: float, reserved: int) -> None:
    s = kept()
    reckoning.reserve(s, NOW)
    reckoning.reserve(s, NOW + after)
    assert len(s.reserved) == reserved


@pytest.mark.parametrize(("per", "silent"), [(1.0, 30.0), (60.0, 60.0)])
def test_nobody_waits_for_a_reply_after_half_a_minute_or_a_window(
    per: float, silent: float
) -> None:
    s = kept(per=per)
    leave(s, NOW)
    reckoning.reserve(s, NOW + silent - 0.5)
    assert len(s.flying) == 1
    reckoning.reserve(s, NOW + silent + 0.5)
    assert not s.flying


@pytest.mark.parametrize(("leaves", "lost_after"), [(False, 1.0), (True, 30.0)])
def test_another_goes_first_after_a_pause_if_the_first_one_is_lost(
    leaves: bool, lost_after: float
) -> None:
    s = kept()
    reckoning.report(s, refused(NOW, 5.0), 0.0)
    probe = NOW + 5
    assert reckoning.reserve(s, probe) == probe
    if leaves:
        reckoning.left(s, probe)
    assert reckoning.reserve(s, probe + lost_after - 0.1) is None
    assert reckoning.reserve(s, probe + lost_after + 0.1) is not None


def test_a_request_that_left_before_the_pause_is_not_the_one_that_goes_first() -> None:
    s = kept()
    reckoning.report(s, refused(NOW, 5.0), 0.0)
    reckoning.reserve(s, NOW + 5)
    reckoning.left(s, NOW - 0.1)
    assert (s.probe, s.probe_left) == (NOW + 5, False)


# The pause.


def pauses(s: State, verdict: str, times: int) -> list[float]:
    """How long so many pauses in a row are, where nobody says how long."""
    found: list[float] = []
    now = NOW
    for _ in range(times):
        reply = refused(now) if verdict == "refused" else Reply("busy", now, now)
        slots.pause(s, reply, 0.0)
        found.append(round(s.until - now, 9))
        now = s.until
    return found


def test_a_busy_server_is_left_alone_for_one_second_then_twice_as_long_up_to_twenty() -> None:
    assert pauses(State(), "busy", 7) == [1, 2, 4, 8, 16, 20, 20]


def test_before_a_bucket_the_pause_is_one_slot_then_twice_as_long_up_to_a_minute() -> None:
    found = pauses(kept(flows=True), "refused", 14)
    assert found[:5] == pytest.approx([GAP * 2**n for n in range(5)])
    assert found[-2:] == [60.0, 60.0]


def test_where_no_limit_is_known_it_asks_again_where_a_window_may_end() -> None:
    s = State(first=NOW - 0.3)
    s.refused = Refusal(NOW, NOW, None, NOW, 0)
    now, ends = NOW, []
    for _ in range(9):
        slots.pause(s, refused(now), 0.0)
        now = s.until
        ends.append(round(now - NOW, 6))
    # Twice blindly; then the ends of the usual windows, and the second after the refusal itself.
    assert ends[:2] == [0.05, 0.25]
    assert ends[2:] == [0.72, 1.02, 1.72, 4.72, 9.72, 29.72, 59.72]


@pytest.mark.parametrize(("ago", "begin"), [(59.0, NOW - 59.0), (61.0, NOW)])
def test_what_began_more_than_a_minute_ago_is_no_window_that_is_still_open(
    ago: float, begin: float
) -> None:
    assert slots.begun(State(first=NOW - ago), Refusal(NOW, NOW, None, NOW, 0)) == begin


def test_a_pause_is_up_to_2_percent_longer_and_ends_no_earlier_than_another() -> None:
    s = State()
    slots.pause(s, refused(NOW, 10.0), 1.0)
    assert s.until == pytest.approx(NOW + 10.2)
    slots.pause(s, refused(NOW + 1, 1.0), 0.0)
    assert s.until == pytest.approx(NOW + 10.2)


def test_after_a_pause_demand_is_counted_anew() -> None:
    s = kept(waited=30)
    reckoning.report(s, refused(NOW, 1.0), 0.0)
    reckoning.report(s, Reply("accepted", NOW + 1, NOW + 1.1), 0.0)
    assert (s.waited, s.first, s.in_a_row) == (0, NOW + 1, 0)
    assert s.next == pytest.approx(NOW + 1.1 + slots.interval(s))


# The padding.


@pytest.mark.parametrize(("s", "most"), [(kept(), 2), (told(50.0, 1.0), 6)])
def test_of_a_learned_limit_two_paddings_are_left_at_most_and_of_a_told_one_all_six(
    s: State, most: int
) -> None:
    grown = [slots.widen(s, NOW + number) for number in range(8)]
    assert s.pad == most
    assert grown == [True] * most + [False] * (8 - most)


def test_a_padding_is_given_back_after_a_minute_without_a_refusal() -> None:
    s = kept()
    slots.widen(s, NOW)
    slots.ease(s, NOW + 59)
    assert s.pad == 1
    slots.ease(s, NOW + 61)
    assert s.pad == 0


def test_a_padding_that_was_given_back_too_early_is_kept_twice_as_long_six_times_over() -> None:
    s = kept()
    now, found = NOW, []
    slots.widen(s, now)
    for _ in range(8):
        began = now
        while s.pad:
            now += 1.0
            slots.ease(s, now)
        found.append(now - began)
        now += 1.0
        slots.widen(s, now)
    assert found == [60.0 * 2**n for n in (0, 1, 2, 3, 4, 5, 6, 6)]
    now = s.padded + 60.0 * 2**6
    slots.ease(s, now)
    slots.widen(s, now + 60.0 * 2**6)  # so long that the last one was not too early
    assert s.ease == 0


# What is remembered.


def test_the_newest_512_replies_are_remembered_at_most() -> None:
    s = kept(1_000.0)
    for number in range(600):
        reckoning.report(s, Reply("accepted", NOW + number, NOW + number), 0.0)
    assert len(s.replies) == 512
    assert s.replies[0] == NOW + 88


def test_a_reply_belongs_to_the_departure_that_is_nearest() -> None:
    for at, rest in ((2.4, [1.0, 3.0]), (2.5, [1.0, 3.0]), (2.6, [1.0, 2.0]), (9.0, [1.0, 2.0])):
        departures = [1.0, 2.0, 3.0]
        state.take_nearest(departures, at)
        assert departures == rest


def test_the_fastest_of_the_last_500_to_1000_replies_is_the_way() -> None:
    s = State()
    state.remember_trip(s, 0.01)
    for _ in range(900):
        state.remember_trip(s, 0.04)
    assert slots.trip(s) == 0.01
    for _ in range(200):
        state.remember_trip(s, 0.04)
    assert slots.trip(s) == 0.04


def test_accepted_requests_share_an_entry_that_spans_a_64th_of_its_age_at_most() -> None:
    s = State()
    number = 64 * 30
    for nth in range(number):
        state.log_accepted(s, NOW + nth / 10, NOW + nth / 10 + 0.01)
    now = s.log[-1][1]
    assert all(last - first <= (now - last) / 64 or count == 1 for first, last, count in s.log)
    assert sum(count for _, _, count in s.log) == number
    assert len(s.log) < number / 2


def test_as_many_replies_are_recalled_as_are_needed() -> None:
    s = State(log=[(1.0, 2.0, 5), (3.0, 4.0, 5)])
    assert state.newest(s, 7) == [2.0, 2.0, 4.0, 4.0, 4.0, 4.0, 4.0]
