"""Fetch executions with Dask: two worker processes here, or a whole cluster, and one limit for all.

With `pip install ".[redis]" "dask[distributed]"` in the checkout of this example, a Redis at REDIS_URL
and a key in HILOS_API_KEY: give it ids, one per line. Executions come out as lines of JSON:

    python dask_fleet.py < ids.txt > executions.jsonl

For machines instead of two processes here: Client("tcp://scheduler:8786") in place of LocalCluster.
"""

import os
import sys
from typing import NamedTuple, cast

from distributed import Client, LocalCluster, Worker, WorkerPlugin, as_completed, get_worker
from redis.asyncio import Redis

from hilos_async import HilosSession, RateLimit
from hilos_async.redis import RedisPacer

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379")
LIMIT = RateLimit(float(os.environ.get("HILOS_RATE", "5")))  # of the account: all workers together
CHUNK = 50  # ids in one task: what is asked again, at most, if its worker dies


# --- in each worker process


class OneSession(WorkerPlugin):
    """One session for the life of the process: connections and pace are shared by its tasks."""

    name = "hilos"

    async def setup(self, worker: Worker) -> None:
        """Open it; Dask calls this on a worker that joins later, too."""
        self.redis = Redis.from_url(REDIS_URL)
        self.hilos = HilosSession(pace=RedisPacer(self.redis, LIMIT))

    async def teardown(self, worker: Worker) -> None:
        """Leave no connection behind."""
        await self.hilos.aclose()
        await self.redis.aclose()


class Part(NamedTuple):
    """What became of one chunk."""

    process: int
    executions: list[bytes]  # as JSON; FlowExecution.from_json reads it
    errors: dict[str, str]


async def fetch(ids: list[str]) -> Part:
    """Fetch one chunk; Dask runs a coroutine on the worker's own event loop, that of the session."""
    hilos = cast(OneSession, get_worker().plugins["hilos"]).hilos
    batch = await hilos.gather_executions(ids)
    return Part(
        os.getpid(),
        [execution.to_json() for execution in batch.executions.values()],
        {str(id): str(error) for id, error in batch.errors.items()},
    )


# --- where the ids come from


def main(ids: list[str]) -> int:
    """Give out the ids and print what comes back."""
    fetched, errors, processes = 0, dict[str, str](), set[int]()
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(OneSession())
        chunks = [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]
        # Not pure: the same ids may have another answer the next time.
        futures = {client.submit(fetch, chunk, pure=False): chunk for chunk in chunks}
        for future in as_completed(list(futures)):
            chunk = futures.pop(future)
            if (error := future.exception()) is not None:  # such as a key that is refused
                errors |= dict.fromkeys(chunk, f"the task failed: {error}")
                continue
            part: Part = future.result()
            for execution in part.executions:
                print(execution.decode())
            fetched += len(part.executions)
            errors |= part.errors
            processes.add(part.process)
    for id, error in errors.items():
        print(f"{id}: {error}", file=sys.stderr)
    print(f"{fetched} fetched, {len(errors)} failed, {len(processes)} processes", file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(list(dict.fromkeys(sys.stdin.read().split()))))
