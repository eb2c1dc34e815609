"""What the library does to be cheap, and how to do without: each lever can be switched off alone.

Knows the insides of the library, and no figure. What is switched off is replaced, in this process,
by what one would write without it; the executions stay the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt
from yarl import URL

from hilos_async import session
from hilos_async._api import endpoints
from hilos_async._wire import dispatch, transport
from hilos_async._wire.burst import Burst
from hilos_async._wire.deadlines import Deadlines
from hilos_async._wire.retry import is_transient

if TYPE_CHECKING:
    from collections.abc import Callable

_ASYNCIO_RECEIVES = 262_144  # bytes


def _tenacity_around_all() -> None:
    attempt = dispatch.Dispatch.answer

    async def retrying(self: Any, call: Any) -> Any:
        policy = AsyncRetrying(
            retry=retry_if_exception(is_transient), stop=stop_after_attempt(4), reraise=True
        )
        return await policy(attempt, self, call)

    dispatch.Dispatch.answer = retrying


def _decode_at_once() -> None:
    async def at_once(self: Any, work: Callable[[], Any]) -> Any:
        return work()

    Burst.run = at_once


def _share_nothing() -> None:
    session.EXECUTION = dataclasses.replace(endpoints.EXECUTION, parts=None)


def _timer_for_each() -> None:
    fetch = transport.Transport.fetch

    async def with_timer(self: Any, call: Any, timeout: float) -> Any:
        async with asyncio.timeout(timeout):
            return await fetch(self, call, timeout)

    nothing = contextlib.nullcontext()
    Deadlines.within = lambda self, seconds: nothing
    transport.Transport.fetch = with_timer


def _large_receives() -> None:
    transport._RECEIVE_BYTES = _ASYNCIO_RECEIVES


def _parse_each_url() -> None:
    URL.with_path = lambda self, path, encoded=False: URL(f"{self.origin()}{path}", encoded=encoded)


LEVERS = {
    "burst": ("replies of one turn of the loop are decoded back to back", _decode_at_once),
    "receive": ("64 KiB for each receive, not asyncio's 256 (plain http only)", _large_receives),
    "tenacity": ("tenacity is asked only after a failure", _tenacity_around_all),
    "deadlines": ("one timer for the deadlines of all attempts", _timer_for_each),
    "sharing": ("equal parts of executions are read and kept once", _share_nothing),
    "url": ("the URL is put together from its parsed prefix", _parse_each_url),
}
