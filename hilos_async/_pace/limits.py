"""What refusals, replies and header fields tell of a limit that nobody wrote down.

Pure functions over a ``State``: a first estimate, what a later refusal says, and when to try more.

A limiter counts in windows, or it lets one more through every so often (a bucket, "it flows"). What a
window had let through is the limit. Of a bucket two things are known: between two refusals it let
through what flowed in, and the rate that it refused is too much. So there is a lower and an upper
bound, and where they lie apart the pace goes to the middle every window or two, until they meet.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from hilos_async._pace import slots, windows
from hilos_async._pace.state import Refusal, count

if TYPE_CHECKING:
    from hilos_async._pace.pacer import Quota
    from hilos_async._pace.state import Count, State
    from hilos_async._pace.windows import Window

_ROUND: Final = (1_000, 500, 100, 50, 25, 20, 10, 5)
_SMALL: Final = (5, 2, 1, 3, 4, 6, 8, 7, 9)  # the likelier first
_LIKELY_FROM: Final = 25  # a round number as large is hardly a burst
_MET: Final = 0.04  # the bounds are that near to each other: share
_MORE: Final = 0.02  # share by which a first try goes over what is known
_FIRST_TRY: Final = 40.0  # seconds without a refusal before it
_CHEAP_TRY: Final = 10.0  # where a refusal costs a moment
_LONGEST_TRY: Final = 40.0  # a limit that rose is found within a minute
_TRY_COST: Final = 0.04  # share of the time that the pauses of failed tries may cost
_LONGEST_COSTLY_TRY: Final = 3_600.0
_LARGEST_STEP: Final = 0.5
_RISEN: Final = 0.08  # share; the third step in a row
_CLIMB: Final = 2.0  # times what is kept, where no upper bound is known
_SLOWER: Final = 0.75  # share of what is kept, where only another rate tells
_CHEAP: Final = 5.0  # seconds that a refusal may cost where a first estimate is doubted
_TELLING: Final = 10  # accepted requests that tell a rate
_SAME: Final = 0.03  # shares by which two figures differ at most that are the same,
_ANOTHER: Final = 0.1  # and at least that are not
_NEARLY: Final = 0.7  # share of what is kept
_FEW: Final = 0.25  # share of what is kept
_RARE: Final = 0.01  # share of what is sent that refusals may cost
_AGAIN: Final = 20.0  # windows
_DEMAND: Final = 0.95  # share of what is kept that must have been used
_LATE_DEMAND: Final = 0.8  # where a loop that wakes late catches nothing up
_SOON: Final = 1.0  # seconds that a limit is kept at least before more is tried
_A_MOMENT: Final = 1e-3  # seconds before a window's first request, so that it is counted too
_AFTERMATH: Final = 1.1  # windows after an estimate in which a refusal may be the first burst's


def conclude(s: State, at: float, accepted: float | None) -> None:
    """Learn from the refusal that began the pause.

    ``accepted``: when the first request after the pause was sent that got through, if one did yet:
    how soon that is tells the kind of limiter.
    """
    refusal = s.refused
    if refusal is None:
        return
    window = windows.explained(s, refusal)
    if accepted is None and window is None:
        return
    knows = s.requests > 0 and not s.guessed
    s.refused, s.guessed = None, False
    twice = windows.twice(s, refusal, accepted)
    if twice is not None and twice.is_window:
        _take(s, at, twice.number, twice.per, refusal.retry_after or 0.0)
    elif window is not None and (window.per != s.per or not knows):
        _learn_window(s, refusal, window, at)
    elif twice is not None:
        _keep(s, _SLOWER * s.requests, s.per)
    elif s.requests == 0:
        assert accepted is not None
        _learn_first(s, refusal, accepted, at)
    else:
        _relearn(s, refusal)
    # What was under way at the refusal, and got through, counts to the next time.
    s.emptied, s.since = refusal.received, s.since - refusal.since
    s.stepped, s.stepped_at = at, s.accepted


def hold_back(s: State, refusal: Refusal) -> None:
    """Have no slot before the end of a wait that nobody obeys, if it can be understood."""
    if s.learns and refusal.retry_after and windows.explained(s, refusal) is not None:
        s.next = max(s.next, refusal.received + refusal.retry_after)


def _keep(s: State, requests: float, per: float) -> None:
    s.stepped_at = s.accepted
    s.requests, s.per = max(requests, 1e-6), per
    s.waited = 0
    if not s.flows:
        slots.remember(s)


def _take(s: State, at: float, requests: float, per: float, cost: float) -> None:
    """Take a window's limit for what it is; ``cost``: seconds that one refusal costs."""
    s.patience = max(_FIRST_TRY, per, cost / _TRY_COST)
    s.flows, s.sure, s.pad = False, True, 0
    _begin_anew(s, at)
    _keep(s, requests, per)


def _begin_anew(s: State, at: float) -> None:
    s.low = s.high = s.before = s.mean = s.seen = 0.0
    s.met, s.early = at, False


def _learn_window(s: State, refusal: Refusal, window: Window, at: float) -> None:
    """Take what the window had let through for the limit."""
    age = min(window.per, refusal.received - window.begin + _A_MOMENT)
    requests = _let_through(s, count(s, age, refusal.sent, refusal.received))
    cost = refusal.retry_after or 0.0
    _take(s, at, requests, window.per, cost)
    # A few may be all that got through so soon; a round number hardly is.
    is_likely = (requests >= _LIKELY_FROM and _is_round(requests)) or requests == s.named
    s.sure = cost > _CHEAP or is_likely


def _let_through(s: State, counted: Count) -> float:
    """What the window had let through: exactly that if nothing lies on its edge."""
    least = counted.most if counted.is_whole else counted.least
    return max(1.0, _likely(s, least, counted.most))


def _learn_first(s: State, refusal: Refusal, accepted: float, at: float) -> None:
    """The first estimate where no Retry-After explains itself."""
    window = windows.first(s, refusal, accepted)
    if window is not None:
        _learn_window(s, refusal, window, at)
        # The Retry-After may be the rest of a longer window, which was met in its middle. So what is
        # under way stays bounded, from a handful on.
        s.guessed = refusal.retry_after is not None
        s.ramped = s.ramped_before = 0
        return
    # It flows. One more got through after ``soon``; what got through before that, and how fast, may
    # have been a burst.
    begin, soon = slots.begun(s, refusal), accepted - refusal.received
    counted = count(s, accepted - begin, refusal.sent, refusal.received)
    rate = 1 / max(soon, 1e-3)
    if counted.most >= 3:
        fast = counted.most / max(1e-3, refusal.received - counted.oldest)
        rate = max(rate, min(fast, 3 * rate))
    s.patience = _CHEAP_TRY
    s.flows, s.sure = True, False
    _begin_anew(s, at)
    _keep(s, _likely(s, rate, rate), 1.0)


def _relearn(s: State, refusal: Refusal) -> None:
    """What a refusal says of a limit that is kept already."""
    kept, tried = s.requests, s.before
    counted = count(s, s.per, refusal.sent, refusal.received)
    last_seen, s.seen = s.seen, 0.0
    s.before, s.more = 0.0, _MORE
    if tried and (s.flows or counted.most >= 0.9 * math.floor(tried)):
        _give_up_try(s, kept, tried)
        return
    mean, is_flow = _mean(s, refusal)
    s.early = _is_early(s, refusal, mean)
    if is_flow:
        s.low, s.high, s.sure = mean, 0.0, True
        _keep(s, _likely(s, 0.99 * mean, 1.01 * mean), s.per)
    elif not s.flows and _has_dropped(s, refusal, counted.most, last_seen):
        requests = _let_through(s, counted)
        if requests < s.per / slots.interval(s):  # not only what the padding left of it
            s.pad = 0
        s.low, s.high = 0.0, 0.0
        s.sure = not s.early or refusal.retry_after is not None
        _keep(s, requests, s.per)
    elif s.sure:
        # Before a bucket only the rate is lowered: a padding would leave room for a try to succeed.
        if not is_rare(s, refusal) and (s.flows or not slots.widen(s, refusal.received)):
            _give_way(s, refusal)
    elif kept <= 1.02 * s.low:  # what had been accepted for a time was a burst
        s.low, s.high = 0.0, kept
        _keep(s, _likely(s, mean, 1.02 * mean) if mean >= 0.4 * kept else kept / 2, s.per)
    else:
        s.high = kept
        _narrow(s)
        if s.early:
            s.high = 0.0  # no upper bound: this rate is doubled soon


def _is_early(s: State, refusal: Refusal, mean: float) -> bool:
    """Whether the refusal may be due to the first burst, which the server may still count.

    For about one more window a refusal says nothing of the rate, unless at least ten got through, at 70
    to 100 % of what is kept. After one such refusal this holds for all until that time is over.
    """
    is_the_rate = refusal.since >= _TELLING and _NEARLY * s.requests <= mean <= s.requests
    is_soon = s.met > 0 and refusal.received - s.met < _AFTERMATH * s.per
    return is_soon and (s.early or not is_the_rate)


def _mean(s: State, refusal: Refusal) -> tuple[float, bool]:
    """What got through since the last refusal, in a window's time; and whether so much flows in.

    That is so if it was the same twice, however fast was asked. A window gives the same mean twice as
    well, but only if it is asked at the same rate.
    """
    last, last_kept, kept = s.mean, s.mean_at, s.requests
    mean = refusal.since / max(1e-3, refusal.received - s.emptied) * s.per
    tells = refusal.since >= _TELLING
    is_same = tells and last > 0 and abs(mean - last) <= _SAME * mean
    # Of equal means the first one stays, with its rate: small steps add up to another rate.
    if not is_same:
        s.mean, s.mean_at = mean if tells else 0.0, kept
    was_burst = kept <= 1.02 * s.low if s.flows else not (s.sure and s.low >= 0.99 * kept)
    is_told = s.flows or abs(kept - last_kept) > _ANOTHER * kept
    is_less = 0.4 * kept <= mean < 0.97 * s.per / slots.interval(s)
    return mean, was_burst and is_same and is_told and is_less


def _has_dropped(s: State, refusal: Refusal, most: float, last: float) -> bool:
    """Whether it dropped, or somebody else takes from the same budget, or it was never that high.

    ``most`` got through in the window before, and ``last`` in the one before the last refusal, if that
    was doubted. At once after a step up it may be a bucket without a burst as well, and after a time
    that went well a rival's one burst: then only the second time tells.
    """
    if most >= 0.97 * s.requests:
        return False
    at_once = not s.sure and s.low > 0 and refusal.sent - s.stepped < 0.5 * s.per
    doubted = at_once or s.low > 1.05 * most or most < _FEW * s.requests
    if not doubted or (last > 0 and abs(most - last) <= max(1.0, _SAME * last)):
        return True
    s.seen = most if s.sure or most > _FEW * s.requests else 0.0
    return False


def _give_up_try(s: State, kept: float, tried: float) -> None:
    """More was too much, and what was known before it was not."""
    costly = max(_LONGEST_TRY, min(s.patience, _LONGEST_COSTLY_TRY))
    s.patience = min(costly if s.patience <= _LONGEST_TRY else _LONGEST_COSTLY_TRY, 2 * s.patience)
    s.sure = (kept - tried) <= _MET * tried
    s.low, s.high = tried, kept
    s.more = _MORE
    _keep(s, tried, s.per)


def is_rare(s: State, refusal: Refusal) -> bool:
    """Whether such refusals cost less than asking more slowly would."""
    return refusal.since * _RARE > max(1.0, refusal.pause / slots.interval(s))


def _give_way(s: State, refusal: Refusal) -> None:
    """Leave more to whoever else draws on the budget, and the more the sooner it comes again."""
    in_time = refusal.sent - s.stepped < _AGAIN * max(1.0, s.per)
    again = refusal.since < _TELLING if s.flows else in_time
    s.less = min(0.5, s.less * 2) if again else _MORE
    _keep(s, s.requests * (1 - s.less), s.per)


def _narrow(s: State) -> None:
    """Go to the middle of the bounds, or to a likely number near it."""
    if s.high - s.low <= (2 * _MET if s.flows and _is_round(s.low) else _MET) * s.high:
        s.sure = True
        _keep(s, s.low, s.per)
        return
    middle, spread = (s.low + s.high) / 2, (s.high - s.low) / 4
    _keep(s, _likely(s, middle - spread, middle + spread), s.per)


def _likely(s: State, least: float, most: float) -> float:
    """The likeliest number within bounds: what a header named, or the roundest, or the most."""
    if s.named and 0.8 * least <= s.named <= 1.25 * most:
        return s.named
    if most < 10:
        whole = [float(number) for number in _SMALL if least <= number <= most]
        return whole[0] if whole else (least + most) / 2
    for step in _ROUND:
        rounded = math.floor(most / step) * step
        if rounded >= max(least, 1) and step <= most / 2:
            return float(rounded)
    return float(math.floor(most)) if math.floor(most) >= least else most


def _is_round(requests: float) -> bool:
    digits = f"{requests:.0f}".rstrip("0")
    return digits in ("1", "2", "25", "3", "5", "6")


def step(s: State, now: float) -> None:
    """Try more where it is time and demand has reached what is kept."""
    kept_for = now - s.stepped
    if s.waited < max(2.0, s.requests) or kept_for < max(_SOON, s.per):
        return
    if kept_for < 3 * slots.interval(s):
        return
    demand = _DEMAND if s.sure and not s.flows else _LATE_DEMAND
    if s.accepted - s.stepped_at < demand * kept_for / slots.interval(s) - len(s.flying):
        return  # something else holds the requests back
    if s.requests == s.announced and s.per == s.announced_per:
        return  # what the server itself says is not tried
    if not s.sure:
        s.low = s.requests
        s.stepped = now
        if s.high:
            _narrow(s)
        else:
            _keep(s, s.requests * _CLIMB, s.per)
    elif kept_for >= (1.5 * max(1.0, s.per) if s.before else s.patience):
        if s.before:
            s.more = min(_LARGEST_STEP, s.more * 2)
            # Two small steps may succeed by chance. Only the third shows that the limit has risen.
            if s.more >= _RISEN:
                s.patience = _CHEAP_TRY if s.flows else max(_FIRST_TRY, s.per)
        s.before = s.low = s.requests
        s.stepped = now
        _keep(s, s.requests * (1 + s.more), s.per)
    elif kept_for >= 2 * s.per:
        s.low = max(s.low, s.requests)


def hear(s: State, quota: Quota, *, refused: bool) -> bool:
    """Take over what the server announces; ``True``: it says that nothing is left.

    ``remaining`` is only heard while no limit is known (close below one, it is near 0 all the
    time), and no more once a refusal said that there was something left.
    """
    if quota.requests and quota.per:
        if (quota.requests, quota.per) != (s.announced, s.announced_per):
            s.announced, s.announced_per = float(quota.requests), quota.per
            s.sure, s.flows, s.guessed, s.before = True, False, False, 0.0
            s.met, s.early = 0.0, False
            _keep(s, s.announced, s.announced_per)
    elif quota.requests:
        s.named = float(quota.requests)
    if refused:
        s.trusts_remaining = s.trusts_remaining and not quota.remaining
        return False
    return bool(s.requests == 0 and s.trusts_remaining and quota.remaining == 0 and quota.reset)
