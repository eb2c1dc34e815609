"""Which window a limiter counts in, as far as its refusals tell.

Pure functions over a ``State``. Four times are known: when the first request left since the last pause,
when one was refused, when the last one was refused, and when one got through again. Between the last
two the window ended. Most windows are usual ones: a second, ten, a minute.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from hilos_async._pace import slots
from hilos_async._pace.state import Passed, count

if TYPE_CHECKING:
    from hilos_async._pace.state import Refusal, State

_WINDOWS: Final = (1.0, 60.0, 3_600.0, 86_400.0)  # those of Django REST Framework's throttles
_USUAL: Final = tuple(sorted((*_WINDOWS, 2.0, 5.0, 10.0, 300.0, 600.0, 900.0, 1_800.0)))
_EXPLAINS: Final = 1.5  # seconds that a window's Retry-After may be off: rounding, and the way
_TELLING_NUMBER: Final = 10  # of fewer, the same number twice says nothing
_SAME_NUMBER: Final = 0.02  # share by which two numbers differ at most that are the same
_ANOTHER_RATE: Final = 0.1  # share by which two rates differ at least that are not
_ROUNDED: Final = 1.0  # seconds that a Retry-After is too long at most, as it is a whole number
_LONGER: Final = 0.5  # share of the window that is kept: it explains no pause that is longer


class Window(NamedTuple):
    """A window in which a refusal fell."""

    per: float
    begin: float  # when its first request was sent; where nobody knows, a whole window ago


def explained(s: State, refusal: Refusal) -> Window | None:
    """The window that explains the Retry-After; ``None``: there is none, or none does."""
    if refusal.retry_after is None:
        return None
    likely = [s.announced_per] if s.announced_per else []
    likely += [s.per] if s.requests else []
    for per in (*likely, *_WINDOWS):
        counted = count(s, per, refusal.sent, refusal.received)
        # A fixed window began with the first request after the last pause, or later. Older ones
        # explain only a likely window: else any Retry-After below a minute would fit a minute.
        since_pause = max(counted.oldest, s.first)
        by_oldest, by_pause = (
            refusal.retry_after - (begin + per - refusal.sent + 0.5)
            for begin in (counted.oldest, since_pause)
        )
        # We wait up to 2 % longer than we are told: so a window may begin before our first request.
        less = _EXPLAINS + (slots.DRAWN * per if s.emptied and since_pause == s.first else 0.0)
        fits = -less < by_pause < _EXPLAINS or (per in likely and abs(by_oldest) < _EXPLAINS)
        if counted.most and fits:
            is_older = abs(by_oldest) <= abs(by_pause)
            return Window(per, counted.oldest if is_older else since_pause)
    return None


def first(s: State, refusal: Refusal, accepted: float) -> Window | None:
    """The likeliest window, where no Retry-After explains itself; ``None``: it counts in none.

    ``accepted``: when the first request after the pause was sent that got through.
    """
    per = s.announced_per or _likeliest(s, refusal, accepted)
    return Window(per, refusal.received - per) if per else None


def _likeliest(s: State, refusal: Refusal, accepted: float) -> float | None:
    if refusal.retry_after is not None:
        return _WINDOWS[0]
    begin = slots.begun(s, refusal)
    least, most = refusal.last - begin, accepted - begin
    silent = accepted - refusal.received
    # No probe was refused: whoever counts in windows hardly ends one just then.
    is_at_once = refusal.last == refusal.sent and silent < _WINDOWS[0]
    if most < _WINDOWS[0] or is_at_once:
        return None
    per = _usual(least, most)
    if per is None:  # who counts what is refused as well, counts from the refusal on
        per = _usual(refusal.last - refusal.received, silent)
        if per is None or silent >= 2 * per:
            # Who counts by the clock's own minutes may have been met in the middle of one.
            per = _usual(least, math.inf)
    return per or most


class Twice(NamedTuple):
    """So many got through twice until a refusal."""

    number: float
    per: float  # the window that would explain it
    is_window: bool  # one does: it was asked at another rate; a bucket lets another number through


def twice(s: State, refusal: Refusal, accepted: float | None) -> Twice | None:
    """Whether as many got through as the last time, in another window than what is kept."""
    begin = s.first or refusal.sent
    took = refusal.received - begin
    number = count(s, took, refusal.sent, refusal.received).most
    last = s.passed
    now = s.passed = Passed(number, number / max(1e-3, took), *_bounds(s, refusal, begin, accepted))
    least, most = max(now.least, last.least), min(now.most, last.most)
    if least > most:  # the first may have been met in the middle of a window
        least, most = now.least, now.most
    apart = max(1.0, _SAME_NUMBER * number)
    is_same = number >= _TELLING_NUMBER and abs(number - last.number) <= apart
    per = _usual(least, most)
    if s.before or not s.requests or not is_same or per is None:
        return None
    is_window = abs(now.rate - last.rate) > _ANOTHER_RATE * now.rate
    silent = max(refusal.last - refusal.received, (refusal.retry_after or 0.0) - _ROUNDED)
    if silent >= _LONGER * s.per:
        return Twice(number, per, is_window)
    # The window is no longer than the one that is kept, or the limiter was taken for a bucket. It is a
    # window only if a probe was refused in the pause: a bucket lets the first one through.
    is_less = s.flows or number < 0.97 * s.requests
    if is_window and is_less and refusal.last > refusal.sent:
        return Twice(number, per, is_window=True)
    return None


def _bounds(
    s: State, refusal: Refusal, begin: float, accepted: float | None
) -> tuple[float, float]:
    """How long the window is at least and at most, by all that is known."""
    least, most = refusal.last - begin - slots.trip(s), math.inf
    if refusal.retry_after is not None:
        least = max(least, refusal.sent + refusal.retry_after - _ROUNDED - begin)
        most = refusal.received + refusal.retry_after - begin
    if accepted is not None:
        most = min(most, accepted - begin)
    # It may have begun before the pause was seen to be over.
    return least, most * (1 + slots.DRAWN) + _ROUNDED


def _usual(least: float, most: float) -> float | None:
    """The shortest usual window within bounds; clocks differ by a little."""
    for per in _USUAL:
        if least <= per * 1.0005 + 0.005 and per <= most:
            return per
    return None
