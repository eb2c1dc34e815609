"""The pace in front of real rate limiters, told and learned, beside how others retry.

The limiters of tests/limiters run as processes on loopback, a fresh one for each figure, with 30 to
60 ms of work for each request or none, and 50 lookups at once. Goodput is the lookups divided by the
limit's rate and by the time taken: who fills a fresh window at once may show more than 100 %. Refusals
are those that the server counted, per 1,000 lookups; a lookup is lost if it is given up, or not answered
in ten times the best possible time.
Run: nox -s bench -- limiters [--only NAME...] [--seconds 40] [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
from botocore.retries import bucket, quota, throttling
from botocore.retries.adaptive import ClientRateLimiter, RateClocker
from tenacity import AsyncRetrying, TryAgain, retry_if_exception_type, wait_random_exponential

from tests.limiters.bed import LIMITERS, Limiter, Run, fetch, ids, running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

CONCURRENCY: Final = 50
TABLE: Final = Path(__file__).with_suffix(".md")
_AIMS = """\
Goodput / refusals per 1,000. Aims: windows and buckets told ≥ 97 % without a refusal, learned ≥ 93 % \
with at most 6 per 1,000; buckets without burst (nginx without `burst`) told ≥ 88 %, learned ≥ 80 %, at \
most 10 per 1,000; nothing lost. *Full jitter* is tenacity's `wait_random_exponential(max=60)`, for \
ever. *botocore adaptive* is that mode's own rate limiter and quota, which take 429 and 503 for \
throttling, with 10 attempts. Neither is told the limit."""


async def full_jitter(asked: Callable[[], Awaitable[bool]]) -> bool:
    """Ask until it is answered."""
    async for attempt in AsyncRetrying(
        wait=wait_random_exponential(max=60), retry=retry_if_exception_type(TryAgain)
    ):
        with attempt:
            if not await asked():
                raise TryAgain
    return True


class BotocoreAdaptive:
    """Retry mode "adaptive" with botocore's own parts, put together as botocore does."""

    ATTEMPTS: Final = 10
    LONGEST_BACK_OFF: Final = 20.0
    RETRY_COST: Final = 5

    def __init__(self) -> None:
        clock = bucket.Clock()
        self._limiter = ClientRateLimiter(
            rate_adjustor=throttling.CubicCalculator(
                starting_max_rate=0, start_time=clock.current_time()
            ),
            rate_clocker=RateClocker(clock),
            token_bucket=bucket.TokenBucket(max_rate=1, clock=clock),
            throttling_detector=self,
            clock=clock,
        )
        self._quota = quota.RetryQuota()
        self._threads = ThreadPoolExecutor(CONCURRENCY)  # its token bucket blocks

    def is_throttling_error(self, *, ok: bool) -> bool:
        """Answer the rate limiter."""
        return not ok

    async def __call__(self, asked: Callable[[], Awaitable[bool]]) -> bool:
        """Ask ten times at most, while the quota of retries lasts."""
        loop = asyncio.get_running_loop()
        for attempt in range(self.ATTEMPTS):
            await loop.run_in_executor(self._threads, self._limiter.on_sending_request, None)
            ok = await asked()
            self._limiter.on_receiving_response(ok=ok)
            if ok:
                self._quota.release(self.RETRY_COST if attempt else 1)
                return True
            if not self._quota.acquire(self.RETRY_COST):
                return False
            await asyncio.sleep(random.random() * min(self.LONGEST_BACK_OFF, 2.0**attempt))
        return False


async def ask_all(
    url: str,
    retrying: Callable[[Callable[[], Awaitable[bool]]], Awaitable[bool]],
    count: int,
    patience: float,
) -> Run:
    """Fetch as many lookups with bare aiohttp and that way of retrying."""
    answered = lost = 0
    waiting: Iterator[str] = ids(count)

    async def worker() -> None:
        nonlocal answered, lost
        for id in waiting:

            async def asked(id: str = id) -> bool:
                async with client.get(f"{url}/flow-execution/{id}") as reply:
                    await reply.read()
                    return reply.status == 200

            if await retrying(asked):
                answered += 1
            else:
                lost += 1

    began = time.monotonic()
    async with aiohttp.ClientSession() as client:
        workers = [asyncio.create_task(worker()) for _ in range(CONCURRENCY)]
        _, late = await asyncio.wait(workers, timeout=patience)
        took = time.monotonic() - began
        for task in late:
            task.cancel()
        await asyncio.wait(workers)
    return Run(answered, count - answered, took, None)


async def figures(limiter: Limiter, client: str, count: int, work: bool) -> str:
    """One client in front of one limiter, as a table's cell."""
    rate = limiter.limit.rate
    patience = 10 * count / rate
    with running(limiter, work=work) as server:
        if client == "told":
            run = await fetch(server.url, limiter.limit, count, patience)
        elif client == "learned":
            run = await fetch(server.url, "learn", count, patience)
        elif client == "full jitter":
            run = await ask_all(server.url, full_jitter, count, patience)
        else:
            run = await ask_all(server.url, BotocoreAdaptive(), count, patience)
    goodput = run.fetched / rate / run.seconds
    cell = f"{goodput:.0%} / {server.refused / count * 1000:.1f}"
    if client == "learned":
        cell += f" / {run.limit}"
    return f"{cell} / **{run.lost} of {count} lost**" if run.lost else cell


def main() -> None:
    """Print the table row by row; the whole one is kept beside this file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limiters", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these limiters alone")
    parser.add_argument("--seconds", type=float, default=40.0, help="best possible time of a run")
    parser.add_argument("--quick", action="store_true", help="8 seconds, and this library alone")
    asked = parser.parse_args()
    clients = ["told", "learned"] if asked.quick else ["told", "learned", "full jitter", "botocore"]
    seconds = 8.0 if asked.quick else asked.seconds
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    say("| limiter | work | told | learned / limit | full jitter | botocore adaptive |")
    say("|---|---|---|---|---|---|")
    for limiter in LIMITERS:
        if asked.only and limiter.name not in asked.only:
            continue
        if limiter.missing:
            print(f"{limiter.name}: {limiter.missing}", file=sys.stderr)
            continue
        # Twice its window at least, so that a minute's limit is met.
        count = int(limiter.limit.rate * max(seconds, 2 * limiter.limit.per))
        for work in (True, False):
            cells = [asyncio.run(figures(limiter, client, count, work)) for client in clients]
            cells += [""] * (4 - len(cells))
            say(f"| {limiter.name} | {'30–60 ms' if work else 'none'} | {' | '.join(cells)} |")
    say(f"\n{_AIMS}")
    if not (asked.only or asked.quick) and asked.seconds >= 40:
        TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
