"""Fetch executions with taskiq: workers on any number of machines, and one limit for all of them.

With `pip install ".[redis]" taskiq taskiq-redis` in the checkout of this example, a Redis at REDIS_URL
and a key in HILOS_API_KEY: in this directory, start the workers, as often and on as many machines as
you like:

    taskiq worker taskiq_fleet:broker --workers 2 --max-async-tasks 2

and give them ids, one per line. Executions come out as lines of JSON:

    python taskiq_fleet.py < ids.txt > executions.jsonl
"""

import asyncio
import os
import sys
from typing import Any

from redis.asyncio import Redis
from taskiq import Context, TaskiqDepends, TaskiqEvents, TaskiqResultTimeoutError, TaskiqState
from taskiq.serializers import JSONSerializer
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from hilos_async import HilosSession, RateLimit
from hilos_async.redis import RedisPacer

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379")
LIMIT = RateLimit(float(os.environ.get("HILOS_RATE", "5")))  # of the account: all workers together
CHUNK = 50  # ids in one task: what is lost, at most, with a task
PATIENCE = 600.0  # seconds without any result until the rest counts as lost

# JSON, not the default: who can write to Redis could run code here through a pickle.
results: RedisAsyncResultBackend[Any] = RedisAsyncResultBackend(
    REDIS_URL, keep_results=False, result_ex_time=86_400, serializer=JSONSerializer()
)
# No time-out: a worker waits for its next task however long that takes. With redis-py's default, 5
# seconds, it would end, and with it the tasks that it works on (taskiq-redis, issue 127).
queue = ListQueueBroker(REDIS_URL, queue_name="hilos", socket_timeout=None)
broker = queue.with_result_backend(results)


# --- in each worker process


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def open_session(state: TaskiqState) -> None:
    """One session for the life of the process: connections and pace are shared by its tasks."""
    state.redis = Redis.from_url(REDIS_URL)
    state.hilos = HilosSession(pace=RedisPacer(state.redis, LIMIT))


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def close_session(state: TaskiqState) -> None:
    """Leave no connection behind."""
    await state.hilos.aclose()
    await state.redis.aclose()


@broker.task("hilos_fetch")
async def fetch(ids: list[str], context: Context = TaskiqDepends()) -> dict[str, Any]:  # noqa: B008
    """Fetch one chunk; each id comes back as an execution or as an error."""
    hilos: HilosSession = context.state.hilos
    batch = await hilos.gather_executions(ids)
    return {
        "process": os.getpid(),
        "executions": [execution.to_json().decode() for execution in batch.executions.values()],
        "errors": {str(id): str(error) for id, error in batch.errors.items()},
    }


# --- where the ids come from


async def main(ids: list[str]) -> int:
    """Give out the ids and print what comes back."""
    fetched, errors, processes = 0, dict[str, str](), set[int]()
    await broker.startup()
    chunks = [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]
    tasks = [await fetch.kiq(chunk) for chunk in chunks]
    patience = PATIENCE
    for chunk, task in zip(chunks, tasks, strict=True):
        try:
            result = await task.wait_result(timeout=patience)
        except TaskiqResultTimeoutError:
            errors |= dict.fromkeys(chunk, "no worker has answered")
            patience = 1.0  # what is there is still taken
            continue
        patience = PATIENCE
        if result.is_err:  # such as a key that is refused
            errors |= dict.fromkeys(chunk, f"the task failed: {result.error}")
            continue
        part = result.return_value
        for execution in part["executions"]:
            print(execution)
        fetched += len(part["executions"])
        errors |= part["errors"]
        processes.add(part["process"])
    await broker.shutdown()
    for id, error in errors.items():
        print(f"{id}: {error}", file=sys.stderr)
    print(f"{fetched} fetched, {len(errors)} failed, {len(processes)} processes", file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(list(dict.fromkeys(sys.stdin.read().split())))))
