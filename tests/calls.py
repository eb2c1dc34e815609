"""Calls as a session makes them, for tests of what is below one."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from hilos_async import RetryPolicy
from hilos_async._api.endpoints import EXECUTION
from hilos_async._api.replies import Reader, refuse
from hilos_async._wire.call import Call, Caller
from hilos_async._wire.options import Bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hilos_async import FlowExecution

BOUNDS = Bounds(
    timeout=60.0,
    attempt_timeout=15.0,
    retry=RetryPolicy(),
    max_concurrency=50,
    max_response_bytes=1_048_576,
)


def a_call(
    number: int, caller: Caller | None, started: float, timeout: float | None
) -> Call[FlowExecution]:
    """A lookup of the execution with that number as its id."""
    id = UUID(int=number)
    caller = caller or Caller(is_batch=False)
    return Call(Reader(EXECUTION), EXECUTION.path(id), id, caller, BOUNDS, started, timeout)


def interpret(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    id: UUID,
    conceal: Callable[[bytes], bytes] = bytes,
) -> FlowExecution:
    """The execution that a reply holds, or the error that it is."""
    path = EXECUTION.path(id)
    if not 200 <= status < 300:
        refuse(status, headers, body, f"GET {path}", EXECUTION.noun)
    return Reader(EXECUTION, conceal).read(status, body, path, id)
