"""pytest fixtures: a Hilos API for each test, and a session that asks it.

One line in the topmost conftest.py: `pytest_plugins = ["hilos_async.testing.fixtures"]`. It knows
how anyio's plugin and pytest-asyncio want an asynchronous fixture to be made, in whatever mode.
Nothing else imports it: pytest is no dependency of this library.
"""

from collections.abc import AsyncGenerator, Iterator

import pytest
from anyio.from_thread import start_blocking_portal

from hilos_async.session import HilosSession
from hilos_async.testing._server import FakeHilos

__all__ = ["fake_hilos", "hilos"]


@pytest.fixture
def fake_hilos(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHilos]:
    """A running `FakeHilos`; `HILOS_BASE_URL` and `HILOS_API_KEY` point at it while the test runs.

    So code that makes its own `HilosSession()`, here or in a process of its own, asks this server.
    Its limit, faults and executions are the test's to set. It runs in a thread of its own: a test
    that is not asynchronous can use it too.
    """
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(FakeHilos()) as fake:
        monkeypatch.setenv("HILOS_API_KEY", fake.token)
        monkeypatch.setenv("HILOS_BASE_URL", fake.base_url)
        yield fake


@pytest.fixture
def hilos(request: pytest.FixtureRequest, fake_hilos: FakeHilos) -> HilosSession:
    """A `HilosSession` that asks `fake_hilos`, closed after the test. For asynchronous tests."""
    # Both plugins take any asynchronous fixture that is theirs, and each has a loop of its own:
    # only the one that runs the test may open and close the session.
    opened_by = "_hilos_of_anyio"
    if request.node.get_closest_marker("asyncio") is not None:
        opened_by = "_hilos_of_pytest_asyncio"
    elif "anyio_backend" not in request.fixturenames:
        pytest.fail(
            "the fixture hilos needs an asynchronous test that anyio's plugin or pytest-asyncio "
            "runs: mark it with pytest.mark.anyio or pytest.mark.asyncio. In an ordinary test take "
            "fake_hilos: a HilosSession() made there asks it",
            pytrace=False,
        )
    elif request.getfixturevalue("anyio_backend_name") != "asyncio":
        pytest.fail(
            "hilos_async runs on asyncio alone: let the fixture anyio_backend return 'asyncio'",
            pytrace=False,
        )
    session: HilosSession = request.getfixturevalue(opened_by)
    return session


@pytest.fixture
async def _hilos_of_anyio(fake_hilos: FakeHilos) -> AsyncGenerator[HilosSession, None]:
    async with fake_hilos.session() as session:
        yield session


try:
    import pytest_asyncio
except ImportError:
    pass  # Then no test is marked for it.
else:

    @pytest_asyncio.fixture
    async def _hilos_of_pytest_asyncio(
        fake_hilos: FakeHilos,
    ) -> AsyncGenerator[HilosSession, None]:
        async with fake_hilos.session() as session:
            yield session
