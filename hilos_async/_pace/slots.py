"""When the next request may leave: evenly spaced slots, a bound for each window, and the pause.

Pure functions over a ``State``. The grid is GCRA with a burst of 1; a late request keeps the grid, so
lateness costs no goodput. Not so before a learned bucket: it may refuse what comes a little too soon, so
there the next slot counts from the departure. Before a request leaves, the n-th newest before it must
have arrived a whole window ago, as far as anybody can know, whatever the network does to the spacing.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from typing import TYPE_CHECKING, Final

from hilos_async._pace import state

if TYPE_CHECKING:
    from hilos_async._pace.pacer import Reply
    from hilos_async._pace.state import Refusal, State

# What the spacing leaves of the limit. A refusal although the limit was kept takes the next one: some
# limiters count whole milliseconds, some only about, and some another share than we are told.
PADS: Final = (0.004, 0.02, 0.05, 0.1, 0.2, 0.35, 0.6)
_LEARNED_PAD: Final = 2  # at most, where a learned limit can be lowered instead
_SPREAD: Final = tuple(1 + pad for pad in PADS)
_A_LITTLE_MORE: Final = 1 + PADS[0] / 2  # than a window
_EASES_AFTER: Final = 60.0  # seconds without a refusal until one padding less holds
_LONGEST_EASE: Final = 6
# The share of a window that one slow reply may push a later request back by.
_LATEST: Final = 0.5
# A loop wakes a millisecond late; at high rates a grid that forgave nothing would lose all of those.
_CATCH_UP: Final = 0.005
_CATCH_UP_SLOTS: Final = 3
_CATCH_UP_SHARE: Final = 0.05  # of a window, at most
_BOUND_CATCH_UP: Final = 0.2  # share of a window
_ALMOST_ONE: Final = 1 - 1e-9  # rounds up what is no float's fault
_BOUND: Final = 512  # replies that are remembered: a longer window is bound by its parts
_TELLING_REPLIES: Final = 20  # of which the fastest tells how long the way is
_UNUSED: Final = 1.0  # seconds after which a slot that nobody left in is lost
_SILENT: Final = 30.0  # seconds after which nobody waits for a reply any more
_FIRST_BLIND: Final = 0.05  # seconds, for a refusal that does not say how long
_LONGEST_BLIND: Final = 60.0
_BUSY: Final = 20.0
_FRESH: Final = 60.0  # seconds; an older beginning is that of no window that is still open
DRAWN: Final = 0.02  # share by which a pause is drawn longer than what was said, at most
_RESETS: Final = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)  # after so long a window may have begun anew


def interval(s: State) -> float:
    """Seconds between two slots."""
    return s.per / s.requests * _SPREAD[s.pad]


def next_slot(s: State, now: float) -> float:
    """Take the next slot of a limit: its time, not before ``now`` but for what may be caught up."""
    # Each request passes here: comparisons cost a third of what min() and max() do.
    requests, per, grid = s.requests, s.per, s.next
    even = per / requests
    gap = even * _SPREAD[s.pad]
    catch_up = 0.0
    if s.sure and not s.pad and not s.flows:
        catch_up = _CATCH_UP_SLOTS * gap
        if catch_up > _CATCH_UP_SHARE * per:
            catch_up = _CATCH_UP_SHARE * per
        if catch_up < _CATCH_UP:
            catch_up = _CATCH_UP
    s.waited = s.waited + 1 if grid > now - (catch_up or _CATCH_UP) else 0
    if grid <= now - catch_up:
        grid = now
    at = grid
    bound = _bound(requests)
    nth = bound - len(s.flying) - len(s.reserved)  # newest reply; all that fly count as newer
    if nth <= 0:
        if -nth < len(s.flying):
            at = max(at, s.flying[-nth] + bound * even * _A_LITTLE_MORE)
    elif nth <= len(s.replies):
        earliest = s.replies[-nth] - _way(s) + bound * even * _A_LITTLE_MORE
        if at < earliest:
            at = earliest
    # What the bound pushed back, the grid catches up within it.
    late = at - _BOUND_CATCH_UP * per if catch_up else at
    s.next = (late if late > grid else grid) + gap
    return at


def trip(s: State) -> float:
    """Seconds that the fastest reply took lately; 0 before the first."""
    fastest = s.fastest if s.fastest < s.fastest_before else s.fastest_before
    return fastest if fastest < math.inf else 0.0


def _way(s: State) -> float:
    """Seconds of a reply's time that are the way for sure.

    The first replies of a process tell no such thing: they took as long as it takes to connect.
    """
    return trip(s) if s.recent >= _TELLING_REPLIES or s.fastest_before < math.inf else 0.0


def left(s: State, at: float) -> None:
    """Hear that a request left, in one of the slots that were given out."""
    if s.reserved:  # an older one that nobody used is lost in time
        del s.reserved[max(0, bisect_right(s.reserved, at) - 1)]
    insort(s.flying, at)
    if s.probing and at >= s.began:  # one that left before it may be heard of late
        s.probe, s.probe_left = at, True
    if not s.first:
        s.first = at
    if s.requests and (s.pad or s.flows or not s.sure):
        s.next = max(s.next, at + interval(s))


def replied(s: State, reply: Reply) -> None:
    """Hear when a reply came; without a reply, when it was given up."""
    state.take_nearest(s.flying, reply.sent)
    if reply.verdict == "accepted":  # a refusal is faster: nobody worked on it
        state.remember_trip(s, reply.received - reply.sent)
    if s.requests and reply.verdict in ("accepted", "failed"):
        latest = reply.sent + _way(s) + _LATEST * s.per
        insort(s.replies, min(reply.received, latest))
        del s.replies[: -_bound(s.requests)]


def forget_lost(s: State, now: float) -> None:
    """Count no more on slots that nobody used and on requests that nobody will report."""
    while s.reserved and s.reserved[0] < now - _UNUSED:
        del s.reserved[0]
    while s.flying and s.flying[0] < now - max(_SILENT, s.per):
        del s.flying[0]
    if s.probe and s.probe < now - (_SILENT if s.probe_left else _UNUSED):
        s.probe = 0.0


def remember(s: State) -> None:
    """Recall the replies of the time before the limit was known: their requests are in its window."""
    bound = _bound(s.requests)
    if len(s.replies) < bound:
        s.replies = state.newest(s, bound)


def _bound(requests: float) -> int:
    return int(requests + _ALMOST_ONE) if requests < _BOUND else _BOUND


def pause(s: State, reply: Reply, spread: float) -> None:
    """Pause for a refusal: as long as it says, or as long as seems wise; then one request goes first.

    ``spread`` is drawn from 0 to 1: up to 2 % more keep processes that were refused together from
    coming back together.
    """
    s.in_a_row += 1
    if reply.wait is not None:
        wait = reply.wait
    elif reply.verdict == "busy":
        wait = min(_BUSY, 2.0 ** min(s.in_a_row - 1, 30))
    elif reply.quota is not None and reply.quota.reset:
        wait = reply.quota.reset
    else:
        wait = _blind(s, reply.received)
    s.began = reply.received
    s.until = max(s.until, reply.received + wait * (1 + DRAWN * spread))
    s.probing, s.probe = True, 0.0


def _blind(s: State, received: float) -> float:
    """How long to wait where nobody says: a moment, then longer, to where a window may end."""
    times = s.in_a_row - 1
    gap = interval(s) if s.requests else 0.0
    if s.requests and s.flows:
        return float(min(_LONGEST_BLIND, max(0.01, gap) * 2.0 ** min(times, 12)))
    wait = (max(0.01, gap) if s.requests else _FIRST_BLIND) * 4.0 ** min(times, 12)
    if s.requests:
        longest = s.per * 2.0 ** min(max(0, times - 4), 12)
        return float(min(wait, longest, max(_LONGEST_BLIND, s.per)))
    if times >= 2 and s.refused is not None:
        begin = begun(s, s.refused)
        ends = [begin + reset for reset in _RESETS]
        # Some count what they refuse as well: their window is over only that long after the refusal.
        ends.insert(1, s.refused.received + _RESETS[0])
        for end in ends:
            if end > received:
                return end + 0.02 - received  # a little later: the clocks may differ by a tick
    return float(min(wait, _LONGEST_BLIND))


def begun(s: State, refusal: Refusal) -> float:
    """When the window may have begun that the refusal fell in.

    With the first request since the last pause. If that was long ago, nobody knows: then it is over at
    the latest that long after the refusal.
    """
    begin = s.first or refusal.sent
    return begin if refusal.received - begin <= _FRESH else refusal.received


def go_on(s: State, sent: float, received: float) -> None:
    """End the pause: one request got through. The grid starts anew, nothing is caught up."""
    s.probing, s.probe, s.in_a_row = False, 0.0, 0
    s.first = sent
    s.waited = 0
    s.next = max(s.next, received + (interval(s) if s.requests else 0.0))


def widen(s: State, received: float) -> bool:
    """Leave more of the limit, after a refusal although it was kept; ``False`` if that is the most."""
    if s.pad == len(PADS) - 1 or (s.learns and s.pad >= _LEARNED_PAD):
        return False
    if received - s.padded >= _EASES_AFTER * 2.0**s.ease:
        s.ease = 0
    elif s.eased:
        s.ease = min(_LONGEST_EASE, s.ease + 1)
    s.pad, s.padded, s.eased = s.pad + 1, received, False
    return True


def ease(s: State, now: float) -> None:
    """Give a padding back after a long time without a refusal."""
    if now - s.padded >= _EASES_AFTER * 2.0**s.ease:
        s.pad, s.padded, s.eased = s.pad - 1, now, True
