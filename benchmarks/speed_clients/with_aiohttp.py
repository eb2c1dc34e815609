"""aiohttp as people use it, and as little of it as a reply takes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from benchmarks.speed_clients import Get

_HEADERS = {"Authorization": "Token benchmark"}


@asynccontextmanager
async def naive(base_url: str) -> AsyncIterator[Get]:
    """What a service writes before it looks for a library: no retry, no check, dicts."""
    async with aiohttp.ClientSession(headers=_HEADERS) as session:

        async def get(execution_id: UUID) -> Any:
            async with session.get(f"{base_url}/flow-execution/{execution_id}") as response:
                return await response.json()

        yield get


@asynccontextmanager
async def aiohttp_retry(base_url: str) -> AsyncIterator[Get]:
    """The same with aiohttp-retry in between."""
    from aiohttp_retry import ExponentialRetry, RetryClient

    async with RetryClient(headers=_HEADERS, retry_options=ExponentialRetry(attempts=3)) as session:

        async def get(execution_id: UUID) -> Any:
            async with session.get(f"{base_url}/flow-execution/{execution_id}") as response:
                return await response.json()

        yield get


@asynccontextmanager
async def floor(base_url: str) -> AsyncIterator[Get]:
    """Read the body with a default session and throw it away."""
    async with aiohttp.ClientSession(headers=_HEADERS) as session:

        async def get(execution_id: UUID) -> int:
            async with session.get(f"{base_url}/flow-execution/{execution_id}") as response:
                return len(await response.read())

        yield get


@asynccontextmanager
async def lean(base_url: str) -> AsyncIterator[Get]:
    """Read the body with every public knob that pays, and throw it away."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=15)
    async with aiohttp.ClientSession(
        headers=_HEADERS,
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
        connector=aiohttp.TCPConnector(limit=0),
    ) as session:

        async def get(execution_id: UUID) -> int:
            url = URL(f"{base_url}/flow-execution/{execution_id}", encoded=True)
            response = await session.get(url)
            return len(await response.read())

        yield get
