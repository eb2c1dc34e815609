"""Nothing is lost in front of a real limiter, few requests are refused, and its limit is found.

The bounds are looser than the aims in `benchmarks/limiters.py`, so that they hold on a busy machine. A
machine that stalls pushes requests together, and then a limiter may refuse more of them: so a limiter is
met up to three times. Nothing may be lost in any of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import pytest

from tests.limiters.bed import LIMITERS, Limiter, fetch, running

if TYPE_CHECKING:
    from hilos_async import RateLimit

pytestmark = pytest.mark.anyio

_PATIENCE: Final = 120.0  # seconds for one case: many times what it needs
_TRIES: Final = 3
_WORK: Final = pytest.mark.parametrize("work", [True, False], ids=["work", "no-work"])


def limiters(*without: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "limiter",
        [
            pytest.param(
                limiter,
                id=limiter.name,
                marks=pytest.mark.skipif(bool(limiter.missing), reason=str(limiter.missing)),
            )
            for limiter in LIMITERS
            if limiter.name not in without
        ],
    )


@_WORK
@limiters()
async def test_a_limit_that_was_told_is_kept(limiter: Limiter, work: bool) -> None:
    count = 75 if limiter.limit.rate > 20 else 12
    # A bucket without burst refuses whatever a stall of this machine pushed together.
    most = int(0.15 * count) if limiter.leaky else 5 if limiter.approximate else 2
    met = [await _meet(limiter, limiter.limit, count, work=work)]
    while met[-1].refused > most and len(met) < _TRIES:
        met.append(await _meet(limiter, limiter.limit, count, work=work))
    assert met[-1].refused <= most, met


@_WORK
# A long window that nobody tells is found when it is over: the benchmark has the time.
@limiters("express-minute", "flask-10s")
async def test_a_limit_that_nobody_told_is_found(limiter: Limiter, work: bool) -> None:
    count = 150 if limiter.limit.rate > 20 else 20
    if limiter.approximate and not limiter.leaky:
        count = 400  # it is approached from both sides
    met = [await _meet(limiter, "learn", count, work=work)]
    while not _is_found(limiter, met[-1]) and len(met) < _TRIES:
        met.append(await _meet(limiter, "learn", count, work=work))
    assert _is_found(limiter, met[-1]), met


class Met(NamedTuple):
    """One meeting with a limiter."""

    refused: int
    kept: float | None  # share of the true limit
    is_slow: bool  # so slow a machine that the limit was never met


async def _meet(
    limiter: Limiter, pace: RateLimit | Literal["learn"], count: int, *, work: bool
) -> Met:
    """Fetch so many, of which none may be lost or asked for twice."""
    with running(limiter, work=work) as server:
        run = await fetch(server.url, pace, count, _PATIENCE)
    assert (run.fetched, run.lost) == (count, 0)
    assert server.accepted == count
    kept = run.limit.rate / limiter.limit.rate if run.limit else None
    return Met(server.refused, kept, count / run.seconds < limiter.limit.rate)


def _is_found(limiter: Limiter, met: Met) -> bool:
    if met.kept is None:
        return met.refused == 0 and met.is_slow
    least, most = (0.6, 1.2) if limiter.approximate else (0.9, 1.1)
    return least <= met.kept <= most and met.refused <= (20 if limiter.approximate else 12)
