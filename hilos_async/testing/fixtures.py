"""pytest fixtures: a Hilos API for each test, and a session that asks it.

One line in the topmost conftest.py: `pytest_plugins = ["hilos_async.testing.fixtures"]`. It knows
how anyio's plugin and pytest-asyncio want an asynchronous fixture to be made, in whatever mode.
Nothing else imports it: pytest is no dependency of this library.
"""

import contextlib
import functools
from collections.abc import AsyncGenerator, Iterator
from typing import Literal

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
    mark = request.node.get_closest_marker("asyncio")
    if mark is not None and "anyio_backend" in request.fixturenames:
        return _closed_by_the_test(request, fake_hilos.session())
    if mark is not None:
        opened_by = f"_hilos_of_pytest_asyncio_{_loop_scope(mark, request.config)}"
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


def _closed_by_the_test(request: pytest.FixtureRequest, session: HilosSession) -> HilosSession:
    """The session, which the test itself closes: pytest-asyncio runs it, and anyio all its fixtures."""
    test = request.node.obj

    @functools.wraps(test)
    async def closing(*arguments: object, **named: object) -> None:
        async with session:
            await test(*arguments, **named)

    request.node.obj = closing
    request.addfinalizer(lambda: setattr(request.node, "obj", test))
    return session


@pytest.fixture
async def _hilos_of_anyio(fake_hilos: FakeHilos) -> AsyncGenerator[HilosSession, None]:
    async with fake_hilos.session() as session:
        yield session


def _loop_scope(mark: pytest.Mark, config: pytest.Config) -> str:
    """Whose loop a test of pytest-asyncio runs in: only there may its session be used and closed."""
    named = mark.kwargs.get("loop_scope") or mark.kwargs.get("scope")
    with contextlib.suppress(KeyError, ValueError):  # an older pytest-asyncio has no such option
        named = named or config.getini("asyncio_default_test_loop_scope")
    return str(named or "function")


try:
    import pytest_asyncio
except ImportError:
    pass  # Then no test is marked for it.
else:

    def _in_the_loop_of(
        scope: Literal["function", "class", "module", "package", "session"],
    ) -> object:
        @pytest_asyncio.fixture(loop_scope=scope, name=f"_hilos_of_pytest_asyncio_{scope}")
        async def opened(fake_hilos: FakeHilos) -> AsyncGenerator[HilosSession, None]:
            async with fake_hilos.session() as session:
                yield session

        return opened

    _of_function = _in_the_loop_of("function")
    _of_class = _in_the_loop_of("class")
    _of_module = _in_the_loop_of("module")
    _of_package = _in_the_loop_of("package")
    _of_session = _in_the_loop_of("session")
