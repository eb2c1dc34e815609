"""A small suite under pytest-asyncio, because users have it: fixtures that stay open over a test."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import pytest
import pytest_asyncio

from hilos_async.testing import FakeHilos

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hilos_async import HilosSession


@pytest_asyncio.fixture
async def hilos() -> AsyncIterator[HilosSession]:
    async with FakeHilos() as fake, fake.session() as session:
        yield session


@pytest.mark.asyncio
async def test_one_lookup(hilos: HilosSession) -> None:
    assert (await hilos.get_execution(UUID(int=7))).id == UUID(int=7)


@pytest.mark.asyncio
async def test_a_batch_with_a_timeout(hilos: HilosSession) -> None:
    batch = await hilos.gather_executions([UUID(int=n) for n in range(20)], timeout=20)
    assert len(batch.executions) == 20
