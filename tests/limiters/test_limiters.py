"""Nothing is lost in front of a real limiter, few requests are refused, and its limit is found.

The bounds are looser than the aims in `benchmarks/limiters.py`, so that they hold on a busy machine.
"""

from __future__ import annotations

from typing import Final

import pytest

from tests.limiters.bed import LIMITERS, Limiter, fetch, running

pytestmark = pytest.mark.anyio

_PATIENCE: Final = 120.0  # seconds for one case: many times what it needs
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
    with running(limiter, work=work) as server:
        run = await fetch(server.url, limiter.limit, count, _PATIENCE)
    assert (run.fetched, run.lost) == (count, 0)
    assert server.accepted == count
    # A bucket without burst refuses whatever a stall of this machine pushed together.
    assert server.refused <= (0.15 * count if limiter.leaky else 5 if limiter.approximate else 2)


@_WORK
# A long window that nobody tells is found when it is over: the benchmark has the time.
@limiters("express-minute", "flask-10s")
async def test_a_limit_that_nobody_told_is_found(limiter: Limiter, work: bool) -> None:
    count = 150 if limiter.limit.rate > 20 else 20
    if limiter.approximate and not limiter.leaky:
        count = 400  # it is approached from both sides
    with running(limiter, work=work) as server:
        run = await fetch(server.url, "learn", count, _PATIENCE)
    assert (run.fetched, run.lost) == (count, 0)
    assert server.accepted == count
    assert server.refused <= (20 if limiter.approximate else 12)
    if run.limit is None:  # a machine so slow that it never met the limit
        assert server.refused == 0
        assert count / run.seconds < limiter.limit.rate
    else:
        least, most = (0.6, 1.2) if limiter.approximate else (0.9, 1.1)
        assert least <= run.limit.rate / limiter.limit.rate <= most
