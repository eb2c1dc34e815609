"""What `ModelResponse` saves a FastAPI endpoint, against the ordinary way to answer with a model.

The app alone, without a socket: the same content both ways in turn, and the median of the ratios.
Run: nox -s bench -- answers
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from typing import Any
from uuid import UUID

import fastapi

from hilos_async import ExecutionBatch, FlowExecution
from hilos_async.fastapi import ModelResponse
from hilos_async.testing import FakeHilos

MANY, ROUNDS, SECONDS = 500, 15, 0.05
WAYS = {"ordinary": lambda content: content, "quick": ModelResponse}


def contents() -> dict[str, tuple[Any, object]]:
    """What is answered, with its type."""
    fake = FakeHilos()
    executions = {
        id: FlowExecution.from_json(json.dumps(fake.document(id, at=0)))
        for id in map(UUID, (f"00000000-0000-4000-8000-{n:012}" for n in range(MANY)))
    }
    one, *_ = as_list = [*executions.values()]
    return {
        "one execution": (FlowExecution, one),
        f"a list of {MANY}": (list[FlowExecution], as_list),
        f"a batch of {MANY}": (ExecutionBatch, ExecutionBatch(executions, {})),
    }


def add(app: fastapi.FastAPI, path: str, kind: Any, way: Any, content: object) -> None:
    """An endpoint that answers with the content."""

    async def endpoint() -> object:
        return way(content)

    app.get(path, response_model=kind)(endpoint)


async def ask(app: fastapi.FastAPI, path: str) -> bytes:
    """The body of the answer."""
    parts: list[bytes] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        parts.append(message.get("body", b""))

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    return b"".join(parts)


async def seconds(app: fastapi.FastAPI, path: str) -> float:
    """How long an answer takes, on average over a short while."""
    began, count = time.perf_counter(), 0
    while (took := time.perf_counter() - began) < SECONDS:
        await ask(app, path)
        count += 1
    return took / count


async def main() -> None:
    """Measure and print."""
    app = fastapi.FastAPI()
    found = contents()
    for name, (kind, content) in found.items():
        for way, function in WAYS.items():
            add(app, f"/{way}/{name}", kind, function, content)
    for name in found:
        assert json.loads(await ask(app, f"/ordinary/{name}")) == json.loads(
            await ask(app, f"/quick/{name}")
        )
        pairs = [[await seconds(app, f"/{way}/{name}") for way in WAYS] for _ in range(ROUNDS)]
        usual, quick = (statistics.median(times) * 1e3 for times in zip(*pairs, strict=True))
        gain = statistics.median(usual / quick for usual, quick in pairs)
        print(f"{name:16} {usual:6.2f} ms  ModelResponse {quick:6.2f} ms  {gain:4.1f} times")


if __name__ == "__main__":
    asyncio.run(main())
