"""The reckoning of a pace, written once: when the next request may leave, and what a reply changes.

Pure functions over a ``State`` that change it in place. The clock and chance are given, so a pacer in
memory, one in a file under a lock and one in a simulation give the same slots. Of a pacer on top:

    slot = reserve(state, now)      None: ask again as soon as a reply came, or after ``patience``
    left(state, at)                 a request left in that slot, at that time
    report(state, reply, spread)    how it ended; ``spread`` is drawn from 0 to 1

``encode`` and ``decode`` of ``state.py`` save the state between any two of them. A slot in which
nothing left within a second is lost; a request without a reply counts as under way for half a minute.
``lua/`` is the only second writing: what changes here changes there.

    ramp   no limit is known: what is under way is bounded, not a rate
    hold   a limit is known: evenly spaced slots just below it; now and then a little more is tried
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Final

import msgspec

from hilos_async._pace import limits, slots
from hilos_async._pace.state import Refusal, log_accepted

if TYPE_CHECKING:
    from hilos_async._pace.pacer import Reply
    from hilos_async._pace.state import State

_FIRST_GAP: Final = 0.05  # seconds, until a reply tells how long a round trip takes
# What is under way when a limit is met is refused together. So the ramp risks a handful, or a share of
# what was accepted lately; and less where a limit is likely to be, for limits are round numbers.
_RISK: Final = 6
_NEAR: Final = 4
_RISKED_SHARE: Final = 0.22
_OUTDONE: Final = 1.25  # times what got through until the refusal: that was no limit
# Lately: in the last one to two times so many seconds, or round trips. Lookups that came one by one,
# long ago, do not tell how many a server takes at once.
_LATELY: Final = 5.0
_LATELY_TRIPS: Final = 5.0
_LIKELY: Final = (50, 60, 100, 200, 300, 500, 600, 1_000, 5_000, 10_000)


def reserve(s: State, now: float) -> float | None:
    """Take the next slot and return its time; ``None``: none before a reply comes."""
    slots.forget_lost(s, now)
    if s.probing:
        if s.probe:
            return None
        if s.learns and now >= s.until:
            limits.conclude(s, now, None)
        at = max(now, s.until, s.next)
        s.probe, s.probe_left = at, False
        if s.requests:
            s.next = at + slots.interval(s)
    elif s.requests:
        if s.guessed and len(s.flying) + len(s.reserved) >= _at_once(s, now):
            return None
        if s.pad:
            slots.ease(s, now)
        if s.learns:
            limits.step(s, now)
        at = max(slots.next_slot(s, now), s.until)
    elif s.learns:
        at_once = _at_once(s, now)
        if len(s.flying) + len(s.reserved) >= at_once:
            return None
        at = now if now > s.next else s.next
        gap = (slots.trip(s) or 1.0) / at_once
        s.next = at + (gap if gap < _FIRST_GAP else _FIRST_GAP)
    else:
        return s.until
    if s.reserved:
        insort(s.reserved, at)
    else:
        s.reserved.append(at)
    return at


def _at_once(s: State, now: float) -> int:
    """How many may be under way while no limit is known, or the one that is kept is a guess."""
    lately = s.ramped + s.ramped_before if now - s.ramp_since <= 2 * _lately(s) else 0
    share = int(_RISKED_SHARE * lately)
    if share <= _RISK:
        return _RISK
    since = _since_refusal(s)
    ahead = share
    if since <= _LIKELY[-1]:
        ahead = _LIKELY[bisect_left(_LIKELY, since)] - since + _NEAR
    if s.guessed:  # as many as got through before it may be the limit
        ahead = min(ahead, max(0, int(s.passed.number) - since) + _NEAR)
    return ahead if ahead < share else share


def _since_refusal(s: State) -> int:
    """How many were accepted since something was learned from the last refusal."""
    return s.accepted - s.stepped_at


def _lately(s: State) -> float:
    return max(_LATELY, _LATELY_TRIPS * slots.trip(s))


def _ramp(s: State, at: float) -> None:
    """Count what was accepted lately."""
    since, lately = at - s.ramp_since, _lately(s)
    if since > lately:
        s.ramped_before = s.ramped if since <= 2 * lately else 0
        s.ramped, s.ramp_since = 0, at
    s.ramped += 1
    if s.guessed and _since_refusal(s) > _OUTDONE * s.passed.number:
        s.guessed = False


def patience(s: State) -> float:
    """Seconds after which to ask again, where no slot was to be had and no reply is heard of."""
    return max(0.005, min(0.1, slots.trip(s)))


def left(s: State, at: float) -> None:
    """Hear that a request left in a slot that was given out."""
    slots.left(s, at)


def report(s: State, reply: Reply, spread: float) -> None:
    """Hear how a request ended."""
    slots.replied(s, reply)
    after_pause = s.probing and reply.sent >= s.began
    quota = reply.quota if s.learns else None
    if quota is not None and limits.hear(s, quota, refused=reply.verdict == "refused"):
        _refuse(s, _as_refused(reply), spread)
        after_pause = False
    if reply.verdict == "accepted":
        s.accepted += 1
        s.since += 1
        if s.learns:
            log_accepted(s, reply.sent, reply.received)
            if not s.requests or s.guessed:
                _ramp(s, reply.received)
        if after_pause:
            if s.learns:
                limits.conclude(s, reply.received, reply.sent)
            elif (refusal := s.refused) is not None:
                s.refused = None
                s.since = 1
                if s.requests and not limits.is_rare(s, refusal):
                    slots.widen(s, reply.received)
            slots.go_on(s, reply.sent, reply.received)
    elif reply.verdict == "failed":
        if after_pause:
            s.probe = 0.0  # it found nothing out: another goes
    elif reply.sent >= s.began:  # the others were on their way before the pause began
        _refuse(s, reply, spread)


def _as_refused(reply: Reply) -> Reply:
    """What a reply that leaves nothing says: as a refusal would."""
    wait = reply.quota.reset if reply.quota else None
    return msgspec.structs.replace(reply, verdict="refused", retry_after=wait, wait=wait)


def _refuse(s: State, reply: Reply, spread: float) -> None:
    if reply.verdict == "refused":
        if s.probing and s.refused is not None:
            s.refused.last = reply.sent
        elif not s.probing or s.accepted > s.stepped_at:
            # A refused probe teaches nothing: nothing was accepted since the last time.
            s.refused = Refusal(reply.sent, reply.received, reply.retry_after, reply.sent, s.since)
    slots.pause(s, reply, spread)
    if s.refused is not None:
        s.refused.pause = s.until - s.refused.received
    if reply.wait == 0.0 and s.refused is not None:
        limits.hold_back(s, s.refused)
