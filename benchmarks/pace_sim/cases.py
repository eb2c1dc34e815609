"""The cases: what there is to do, what is aimed at, and which are small."""

from __future__ import annotations

from benchmarks.pace_sim.kinds import Case, Paced, Reservation, Single, Unlimited
from benchmarks.pace_sim.world import Latency, Scene
from hilos_async import RateLimit
from hilos_async.testing import FakeLimit

_JITTERY = Latency(half=0.050, jitter=0.050)
_LOOPBACK = Latency(half=0.0005, jitter=0.0001)
_FIVE = RateLimit(5)
_FIFTY = FakeLimit(50, retry_after=1)
_LEAKY = FakeLimit(50, kind="leaky", retry_after="none")

CASES: list[Case] = [
    Paced(
        name="known 5/s: bucket, lock-out of 30 s",
        scene=Scene(lookups=2_000, limit=FakeLimit(5, kind="bucket", lockout=30)),
        known=_FIVE,
        goodput=99,
        refusals=0,
        quick=True,
    ),
    Paced(
        name="known 5/s: fixed window",
        scene=Scene(lookups=2_000, limit=FakeLimit(5, kind="fixed-window")),
        known=_FIVE,
        goodput=95,
        refusals=0,
        quick=True,
    ),
    Paced(
        name="known 5/s: sliding log",
        scene=Scene(lookups=2_000, limit=FakeLimit(5)),
        known=_FIVE,
        goodput=95,
        refusals=0,
        quick=True,
    ),
    Paced(
        name="unknown 50/s sliding log, Retry-After 1: 2,000 lookups",
        scene=Scene(lookups=2_000, limit=_FIFTY),
        goodput=89,
        refusals=5,
        quick=True,
    ),
    Paced(
        name="unknown 50/s sliding log, Retry-After 1: 20,000 lookups",
        scene=Scene(lookups=20_000, limit=_FIFTY),
        goodput=95,
        refusals=1,
    ),
    Paced(
        name="unknown 600/min sliding log: 2,000 lookups",
        scene=Scene(lookups=2_000, limit=FakeLimit(600, per=60)),
        goodput=97,
        refusals=5,
        quick=True,
    ),
    Paced(
        name="unknown 600/min sliding log: 20,000 lookups",
        scene=Scene(lookups=20_000, limit=FakeLimit(600, per=60)),
        goodput=97,
        refusals=5,
    ),
    Paced(
        name="unknown 600/min fixed window of the clock, met in its middle: 2,000 lookups",
        scene=Scene(lookups=2_000, limit=FakeLimit(600, per=60, kind="fixed-window"), begins=50.0),
        goodput=97,
        refusals=5,
    ),
    Paced(
        name="50 → 20/s after 200 s: 20,000 lookups",
        scene=Scene(lookups=20_000, limit=_FIFTY, later=FakeLimit(20, retry_after=1), later_at=200),
        goodput=92,
        refusals=2,
    ),
    Paced(
        name="a rival takes 40 % of 50/s: 5,000 lookups, goodput of what it leaves",
        scene=Scene(lookups=5_000, limit=_FIFTY, rival=20),
        goodput=80,
        refusals=10,
        rival=97,
        quick=True,
    ),
    Unlimited(
        name="no limit at all: 10,000 lookups",
        scene=Scene(lookups=10_000, limit=None),
        longer=10,
        quick=True,
    ),
    Single(
        name="a single lookup during a batch of 10,000 at 5/s",
        limit=_FIVE,
        scene=Scene(lookups=10_000, limit=FakeLimit(5)),
        slots=2,
        quick=True,
    ),
    Paced(
        name="unknown 50/s sliding log, 16 threads on loopback, no work: 2,000 lookups",
        scene=Scene(lookups=2_000, limit=_FIFTY, latency=_LOOPBACK, threads=16),
        goodput=93,
        refusals=6,
        quick=True,
    ),
    Paced(
        name="unknown 50/s sliding log, 16 threads on loopback, work: 2,000 lookups",
        scene=Scene(lookups=2_000, limit=_FIFTY, latency=_LOOPBACK, threads=16, work=0.06),
        goodput=93,
        refusals=6,
    ),
    Paced(
        name="unknown 50/s fixed window without a word, 16 threads, no work: 2,000 lookups",
        scene=Scene(
            lookups=2_000,
            limit=FakeLimit(50, kind="fixed-window", retry_after="none"),
            latency=_LOOPBACK,
            threads=16,
        ),
        goodput=93,
        refusals=6,
    ),
    Paced(
        name="unknown 50/s sliding counter without a word, met late in its window: 2,000 lookups",
        scene=Scene(
            lookups=2_000,
            limit=FakeLimit(50, kind="sliding-counter", retry_after="none"),
            latency=_LOOPBACK,
            threads=16,
            work=0.06,
            begins=0.9,
        ),
        goodput=93,
        refusals=6,
    ),
    Paced(
        name="unknown 300/min fixed window without a word, no work: 1,200 lookups",
        scene=Scene(
            lookups=1_200,
            limit=FakeLimit(300, per=60, kind="fixed-window", retry_after="none"),
            latency=_LOOPBACK,
            threads=16,
        ),
        goodput=93,
        refusals=12,
    ),
    Paced(
        name="known 50/s leaky bucket without burst or a word: 2,000 lookups",
        scene=Scene(lookups=2_000, limit=_LEAKY, latency=_LOOPBACK),
        known=RateLimit(50),
        goodput=88,
        refusals=10,
    ),
    Paced(
        name="unknown 50/s leaky bucket without burst or a word: 2,000 lookups",
        scene=Scene(lookups=2_000, limit=_LEAKY, latency=_LOOPBACK),
        goodput=80,
        refusals=10,
        quick=True,
    ),
    Paced(
        name="unknown 5/s leaky bucket without burst or a word: 600 lookups",
        scene=Scene(
            lookups=600, limit=FakeLimit(5, kind="leaky", retry_after="none"), latency=_LOOPBACK
        ),
        goodput=80,
        refusals=25,
    ),
    Paced(
        name="unknown 50/s bucket without a word: 2,000 lookups",
        scene=Scene(lookups=2_000, limit=FakeLimit(50, kind="bucket", retry_after="none")),
        goodput=93,
        refusals=10,
    ),
    Reservation(name="uncontended local reservation, real time", microseconds=2),
    # Beyond the aims, so that nothing is tuned to the round ones.
    Paced(
        name="unknown 47/s sliding log: 2,000 lookups",
        scene=Scene(lookups=2_000, limit=FakeLimit(47)),
        quick=True,
    ),
    Paced(
        name="unknown 583/min sliding log: 5,000 lookups",
        scene=Scene(lookups=5_000, limit=FakeLimit(583, per=60)),
    ),
    Paced(
        name="600/min sliding log that replies announce (RateLimit-Policy): 5,000 lookups",
        scene=Scene(lookups=5_000, limit=FakeLimit(600, per=60, headers="policy")),
    ),
    Paced(
        name="20 → 50/s after 100 s: 20,000 lookups",
        scene=Scene(lookups=20_000, limit=FakeLimit(20), later=FakeLimit(50), later_at=100),
        goodput=92,
    ),
    Paced(
        name="known 5/s: sliding log, jittery network (¹): 2,000 lookups",
        scene=Scene(lookups=2_000, limit=FakeLimit(5), latency=_JITTERY),
        known=_FIVE,
        goodput=95,
        refusals=2,
    ),
    Paced(
        name="unknown 50/s sliding log, jittery network (¹): 5,000 lookups",
        scene=Scene(lookups=5_000, limit=_FIFTY, latency=_JITTERY),
        goodput=90,
        refusals=2,
    ),
    Paced(
        name="unknown 5/s: bucket, lock-out of 30 s: 2,000 lookups",
        scene=Scene(lookups=2_000, limit=FakeLimit(5, kind="bucket", lockout=30)),
    ),
    Paced(
        name="four processes that share nothing, 50/s sliding log: 4 × 2,000 lookups",
        scene=Scene(lookups=2_000, limit=_FIFTY, processes=4),
    ),
    Unlimited(
        name="no limit at all, round trip of 10 ms: 10,000 lookups",
        scene=Scene(lookups=10_000, limit=None, latency=Latency(half=0.004, jitter=0.001)),
    ),
    Unlimited(
        name="no limit at all, round trip of 200 ms: 10,000 lookups",
        scene=Scene(lookups=10_000, limit=None, latency=Latency(half=0.097, jitter=0.003)),
    ),
]
