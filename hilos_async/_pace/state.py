"""All that a pacer remembers, as one Struct that can be saved, and what it remembers of the past.

A pacer in memory keeps a ``State``; one for all processes of a machine saves it in a file between
every two steps. What is done with it stands in ``reckoning.py``. No clock, no I/O.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import Final

import msgspec

_COARSE: Final = 64  # an entry of the log spans at most this part of its age
_COMPACT_EVERY: Final = 64  # replies
_LOG_BOUND: Final = 4_096  # entries; the oldest go
_KEPT_LOG: Final = 90_000.0  # seconds; a little more than the longest window, a day
_RECENT: Final = 500  # replies


class Refusal(msgspec.Struct, array_like=True):
    """The refusal that began a pause, until something is learned from it."""

    sent: float
    received: float
    retry_after: float | None
    last: float  # when the last probe was sent that was refused
    since: int  # accepted since the refusal before it
    pause: float = 0.0  # seconds until it was asked again for the last time


class Passed(msgspec.Struct, frozen=True):
    """How many got through from the end of a pause to the next refusal, and what that took."""

    number: float = 0.0
    rate: float = 0.0  # per second
    least: float = 0.0  # seconds that a window has that let so many through
    most: float = 0.0


class State(msgspec.Struct):
    """What a pacer knows. Times are seconds of one clock that never goes back; 0.0 is never."""

    # The limit that is kept: so many requests in so many seconds; 0 requests: none is known.
    learns: bool = True  # False: the limit was told, and is never changed
    requests: float = 0.0
    per: float = 1.0
    # Slots.
    next: float = 0.0  # the next point of the grid
    pad: int = 0  # which of the paddings holds; above 0 nothing is caught up
    padded: float = 0.0  # since when
    ease: int = 0  # how often a padding was given back too early
    eased: bool = False  # whether the last change gave one back
    reserved: list[float] = []  # slots given out in which nothing has left yet
    flying: list[float] = []  # departures without a reply, sorted
    replies: list[float] = []  # the newest replies, sorted: as many as the window bound needs
    fastest: float = math.inf  # seconds that the fastest reply of the last 500 to 1,000 took
    fastest_before: float = math.inf
    recent: int = 0
    # The pause.
    until: float = 0.0
    began: float = 0.0
    in_a_row: int = 0  # refusals since something was accepted
    probing: bool = False  # one request goes first, and the others wait for its reply
    probe: float = 0.0  # when it goes or went; 0: none is under way
    probe_left: bool = False
    # What was seen.
    first: float = 0.0  # when the first request left since the last pause or the beginning
    log: list[tuple[float, float, int]] = []  # accepted: first sent, last received, how many
    logged: int = 0  # since the log was compacted
    accepted: int = 0  # in all
    ramp_since: float = 0.0
    ramped: int = 0  # accepted since then, while what is under way is bounded
    ramped_before: int = 0  # and in as long a time before that
    emptied: float = 0.0  # when a refusal showed that nothing was left
    since: int = 0  # accepted since then
    refused: Refusal | None = None
    # Learning.
    flows: bool = False  # the limiter lets one more through every so often: a bucket
    sure: bool = False  # the bounds have met
    guessed: bool = False  # nothing explains the estimate: what is under way is bounded
    low: float = 0.0  # requests per window that were accepted over a time without a refusal
    high: float = 0.0  # and those that were not; 0: unknown
    met: float = 0.0  # when an estimate was made that owes nothing to the one before
    early: bool = False  # the last refusal was taken for one of the first burst
    mean: float = 0.0  # accepted in a window's time between the last two refusals; 0: too few
    mean_at: float = 0.0  # what was kept then
    seen: float = 0.0  # accepted in the window before the last refusal, where that was doubted
    passed: Passed = Passed()  # until the last refusal
    before: float = 0.0  # what was known before more is tried; 0: nothing is tried
    more: float = 0.02
    less: float = 0.02
    patience: float = 40.0
    stepped: float = 0.0  # since when the present limit is kept
    stepped_at: int = 0  # accepted until then
    waited: int = 0  # slots in a row that somebody had to wait for
    # What header fields said.
    announced: float = 0.0  # requests, with their window
    announced_per: float = 0.0
    named: float = 0.0  # requests, without one
    trusts_remaining: bool = True


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(State)


def encode(state: State) -> bytes:
    """The state as bytes."""
    return _encoder.encode(state)


def decode(saved: bytes) -> State:
    """The state again; raises ``msgspec.DecodeError`` for bytes that are none."""
    return _decoder.decode(saved)


def told(requests: float, per: float) -> State:
    """The state of a pacer that was told its limit; 0 requests: that there is none."""
    whole = float(math.floor(requests))  # no window may see three where 2.5 are allowed
    return State(learns=False, sure=True, requests=whole or requests, per=per)


def moved(state: State, seconds: float) -> State:
    """The same on a clock that shows so many seconds more: after a reboot the clock starts again."""

    def later(at: float) -> float:
        return at + seconds if at else 0.0

    refused = state.refused and Refusal(
        state.refused.sent + seconds,
        state.refused.received + seconds,
        state.refused.retry_after,
        state.refused.last + seconds,
        state.refused.since,
        state.refused.pause,
    )
    names = (
        "next",
        "padded",
        "until",
        "began",
        "probe",
        "first",
        "ramp_since",
        "emptied",
        "met",
        "stepped",
    )
    return msgspec.structs.replace(
        state,
        refused=refused,
        reserved=[at + seconds for at in state.reserved],
        flying=[at + seconds for at in state.flying],
        replies=[at + seconds for at in state.replies],
        log=[(sent + seconds, received + seconds, count) for sent, received, count in state.log],
        **{name: later(getattr(state, name)) for name in names},
    )


def log_accepted(s: State, sent: float, received: float) -> None:
    """Remember an accepted request; the older it gets, the more of its neighbours share its entry."""
    s.log.append((sent, received, 1))
    s.logged += 1
    if s.logged < _COMPACT_EVERY:
        return
    s.logged = 0
    merged: list[tuple[float, float, int]] = []
    for entry in s.log:
        if entry[1] < received - _KEPT_LOG:
            continue
        if merged:
            first, _, count = merged[-1]
            if entry[1] - first <= (received - entry[1]) / _COARSE:
                merged[-1] = (min(first, entry[0]), entry[1], count + entry[2])
                continue
        merged.append(entry)
    s.log = merged[-_LOG_BOUND:]


def newest(s: State, most: int) -> list[float]:
    """When the newest accepted requests were replied to, sorted."""
    replies: list[float] = []
    for _, received, number in reversed(list(s.log)):
        replies += [received] * number
        if len(replies) >= most:
            break
    return sorted(replies[:most])


class Count(msgspec.Struct):
    """How many were accepted in a window before a refusal: surely, and at most."""

    least: int
    most: int
    oldest: float  # when the first of them was sent
    is_whole: bool  # none lies on the edge of the window


def count(s: State, per: float, sent: float, received: float) -> Count:
    """Count what was accepted in the ``per`` seconds before a refusal.

    In which order a server takes requests nobody knows. That each was taken between ``sent`` and
    ``received`` everybody knows.
    """
    least = most = 0
    oldest = received
    for entry in s.log:
        if entry[1] > received - per and entry[0] < received:
            most += entry[2]
            oldest = min(oldest, entry[0])
            if entry[0] > received - per and entry[1] <= sent:
                least += entry[2]
    return Count(least, most, oldest, oldest > received - per)


def remember_trip(s: State, took: float) -> None:
    """Keep the fastest of the last 500 to 1,000 replies: a longer route is no lateness for ever."""
    s.recent += 1
    if s.recent > _RECENT:
        s.recent = 0
        s.fastest_before, s.fastest = s.fastest, math.inf
    s.fastest = min(s.fastest, took)


def take_nearest(times: list[float], at: float) -> None:
    """Remove the entry of a sorted list that is nearest to that time."""
    if not times:
        return
    nth = bisect_left(times, at)
    if nth == len(times) or (nth > 0 and at - times[nth - 1] <= times[nth] - at):
        nth -= 1
    del times[nth]
