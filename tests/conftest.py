"""What all tests share: asyncio as the loop, a server and a client, and nothing from outside."""

import asyncio
import time
from collections.abc import AsyncIterator

import aiohttp
import hypothesis
import pytest

from hilos_async._pace.known import KnownPacer
from hilos_async._pace.learning import LearningPacer
from hilos_async.testing import FakeHilos
from tests import virtual_time

# How fast an example is found or run says more of the machine than of the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_environment(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    names = ("HILOS_API_KEY", "HILOS_API_TOKEN", "HILOS_ACCOUNT", "HILOS_BASE_URL", "HILOS_LOG")
    for name in (*names, "COLUMNS", "LINES"):  # those come before the terminal's own size
        monkeypatch.delenv(name, raising=False)
    # Coverage measures only the processes that the command's tests start: it makes the others slower.
    if not request.path.name.startswith("test_cli"):
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    # No pace of this machine, and none that the test before it left.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
async def fake() -> AsyncIterator[FakeHilos]:
    async with FakeHilos() as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def quick_time(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Nobody waits, and stalls cost no time: neither on the loop nor for a session or a server."""
    clock = virtual_time.QuickClock()
    for owner in (KnownPacer, LearningPacer, FakeHilos):  # they looked their clock up long ago
        defaults = owner.__init__.__kwdefaults__
        assert defaults is not None
        assert defaults["clock"] is time.monotonic
        monkeypatch.setitem(defaults, "clock", clock)
    monkeypatch.setattr(time, "monotonic", clock)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, asyncio.SelectorEventLoop)
    with clock.ruling(loop):
        yield
