"""httpx with pydantic, and the client core of Stainless SDKs on a path that is not its own."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from benchmarks.speed_clients import Get


@asynccontextmanager
async def httpx_pydantic(base_url: str) -> AsyncIterator[Get]:
    """A default httpx client and models that check what they are given."""
    import httpx
    import pydantic

    from benchmarks.speed_clients.pydantic_models import models

    execution = models(pydantic.BaseModel)
    async with httpx.AsyncClient(headers={"Authorization": "Token benchmark"}) as client:

        async def get(execution_id: UUID) -> object:
            response = await client.get(f"{base_url}/flow-execution/{execution_id}")
            response.raise_for_status()
            return execution.model_validate_json(response.content)

        yield get


@asynccontextmanager
async def openai_core(base_url: str) -> AsyncIterator[Get]:
    """The openai package with its own transport."""
    async with _openai(base_url, on_aiohttp=False) as get:
        yield get


@asynccontextmanager
async def openai_on_aiohttp(base_url: str) -> AsyncIterator[Get]:
    """The openai package with the aiohttp transport that it offers for concurrency."""
    async with _openai(base_url, on_aiohttp=True) as get:
        yield get


@asynccontextmanager
async def _openai(base_url: str, *, on_aiohttp: bool) -> AsyncIterator[Get]:
    import openai

    from benchmarks.speed_clients.pydantic_models import models

    execution = models(openai.BaseModel)
    transport = openai.DefaultAioHttpClient() if on_aiohttp else None
    async with openai.AsyncOpenAI(
        api_key="benchmark", base_url=base_url, http_client=transport
    ) as client:

        async def get(execution_id: UUID) -> object:
            return await client.get(f"/flow-execution/{execution_id}", cast_to=execution)

        yield get
