"""What all tests share: asyncio as the loop, a server and a client, and no key from outside."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from hilos_async.testing import FakeHilos


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("HILOS_API_KEY", "HILOS_API_TOKEN", "HILOS_ACCOUNT", "HILOS_BASE_URL", "HILOS_LOG")
    for name in names:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def fake() -> AsyncIterator[FakeHilos]:
    async with FakeHilos() as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session
