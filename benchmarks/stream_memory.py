"""Peak memory of a stream whose results are discarded: 100,000 ids against 1,000.

A FakeHilos serves in a process of its own; each count is streamed in a fresh process, whose peak
resident memory the kernel tells. Run: python -m benchmarks.stream_memory
"""

import asyncio
import resource
import subprocess
import sys
from collections.abc import Iterator
from uuid import UUID

from hilos_async import HilosSession
from hilos_async.testing import FakeHilos

COUNTS = (1_000, 100_000)
BUDGET = 15.0  # MiB


async def stream(base_url: str, token: str, count: int) -> None:
    """Stream that many ids, drop every result and print the peak in KiB."""

    def ids() -> Iterator[UUID]:
        for number in range(count):
            yield UUID(int=number)

    failed = 0
    async with (
        HilosSession(token, base_url=base_url, pace="off") as hilos,
        hilos.stream_executions(ids()) as lookups,
    ):
        async for lookup in lookups:
            failed += lookup.error is not None
    if failed:
        raise SystemExit(f"{failed} lookups failed")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


async def serve() -> None:
    """Serve until this process is ended."""
    async with FakeHilos() as fake:
        print(fake.base_url, fake.token, flush=True)
        await asyncio.Event().wait()


def main() -> int:
    """Print both peaks and their difference; 1 if it is over the budget."""
    command = [sys.executable, "-m", "benchmarks.stream_memory"]
    with subprocess.Popen([*command, "serve"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        where = server.stdout.readline().split()
        peaks: list[float] = []
        for count in COUNTS:
            print(f"streaming {count:,} ids ...", flush=True)
            ran = subprocess.run(
                [*command, *where, str(count)], stdout=subprocess.PIPE, text=True, check=True
            )
            peaks.append(int(ran.stdout) / 1024)
        server.kill()
    few, many = peaks
    print(f"peak {few:.1f} MiB for {COUNTS[0]:,} ids, {many:.1f} MiB for {COUNTS[1]:,}")
    print(f"difference {many - few:+.1f} MiB (budget {BUDGET:.0f} MiB)")
    return int(many - few > BUDGET)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
    elif len(sys.argv) == 4:
        asyncio.run(stream(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    else:
        sys.exit(main())
