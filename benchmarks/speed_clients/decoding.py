"""Decoding alone: the 40 bodies, over and over, without any HTTP."""

from __future__ import annotations

import importlib.util
import json
import statistics
import time
from typing import TYPE_CHECKING, Any

from benchmarks.speed_clients import CAMPAIGNS, execution_id
from benchmarks.static_server import documents
from hilos_async import FlowExecution
from hilos_async._api.endpoints import EXECUTION
from hilos_async._api.replies import Reader

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 25


def measure() -> dict[str, float]:
    """Seconds for a body, the median of rounds in which every way decodes all bodies."""
    bodies: list[bytes] = []
    for number, document in enumerate(documents()):
        document["id"] = str(execution_id(number))
        bodies.append(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())
    ways = _ways()
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, decode in ways.items():
            began = time.process_time()
            for _ in range(5):
                for number, body in enumerate(bodies):
                    decode(number, body)
            times[way].append((time.process_time() - began) / (5 * len(bodies)))
    found = {way: statistics.median(spent) for way, spent in times.items()}
    return {"body bytes": statistics.mean(map(len, bodies)), **found}


def _ways() -> dict[str, Callable[[int, bytes], Any]]:
    ids = [execution_id(number) for number in range(CAMPAIGNS)]
    read = Reader(EXECUTION).read
    paths = [EXECUTION.path(id) for id in ids]
    ways: dict[str, Callable[[int, bytes], Any]] = {
        "hilos_async, in a session": lambda n, body: read(200, body, paths[n], ids[n]),
        "hilos_async, `FlowExecution.from_json`": lambda n, body: FlowExecution.from_json(body),
        "`json.loads` into dicts": lambda n, body: json.loads(body),
    }
    if importlib.util.find_spec("pydantic"):
        import pydantic

        from benchmarks.speed_clients.pydantic_models import models

        execution = models(pydantic.BaseModel)
        ways["pydantic, `model_validate_json`"] = lambda n, body: execution.model_validate_json(
            body
        )
    if importlib.util.find_spec("hilos_by_openapi_generator"):
        from hilos_by_openapi_generator import (  # type: ignore[import-not-found]
            FlowExecution as Generated,
        )

        ways["openapi-generator's model"] = lambda n, body: Generated.from_dict(json.loads(body))
    if importlib.util.find_spec("hilos_by_openapi_python_client"):
        from hilos_by_openapi_python_client.models import (  # type: ignore[import-not-found]
            FlowExecution as Attrs,
        )

        ways["openapi-python-client's model"] = lambda n, body: Attrs.from_dict(json.loads(body))
    return ways
