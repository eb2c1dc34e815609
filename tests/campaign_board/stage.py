"""The campaign board of `examples/`: served by uvicorn in a thread, and as a person sees it.

Knows how the board is started and stopped, and where on the page something stands. What is right is for
the tests to say.
"""

from __future__ import annotations

import contextlib
import importlib
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, cast
from uuid import UUID

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from selenium.common.exceptions import TimeoutException

from hilos_async import RetryPolicy
from tests.browser import BINARY, DRIVER, MISSING, PATIENCE, Browser
from tests.markdown_blocks import ROOT

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from concurrent.futures import Future
    from types import ModuleType

    from hilos_async import HilosSession
    from hilos_async.testing import FakeHilos

needs_browser = pytest.mark.skipif(BINARY is None or DRIVER is None, reason=MISSING)

EXAMPLE = ROOT / "examples" / "campaign_board"
IDS = [str(UUID(int=number)) for number in range(1, 7)]
COUNTS = ("num_contacts", "completed", "running", "failed", "expired", "canceled")


@contextlib.contextmanager
def modules() -> Generator[tuple[ModuleType, ModuleType]]:
    """The example's `app` and `board`, imported as they are when `python app.py` runs."""
    sys.path.insert(0, str(EXAMPLE))
    try:
        yield importlib.import_module("app"), importlib.import_module("board")
    finally:
        sys.path.remove(str(EXAMPLE))
        for name in ("app", "board"):
            sys.modules.pop(name, None)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Stage:
    """A board on a port that stays the same, to be started and stopped; and the fake it asks."""

    def __init__(self, portal: BlockingPortal, fake: FakeHilos, app: ModuleType) -> None:
        self.fake = fake
        self.portal = portal
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self._app = app
        self._serving: Future[None] | None = None

    def start(self, ids: Sequence[str], **options: object) -> None:
        """Serve a new board of these ids, on a session with these options."""
        given: dict[str, object] = {"retry": RetryPolicy(attempts=1, max_backoff=0.01), **options}

        def factory() -> HilosSession:
            return self.fake.session(**given)

        board = self._app.Board(ids)
        self._server = self._app.Server(self._app.create_app(board, factory), board, self.port)
        self._serving = self.portal.start_task_soon(self._server.serve)
        deadline = time.monotonic() + PATIENCE
        while not self._server.started:
            assert not self._serving.done(), "the board did not start"
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def stop(self) -> None:
        """End it as a signal does, with browsers connected."""
        if self._serving is not None:
            self.portal.call(self._server.handle_exit, signal.SIGTERM, None)
            self._serving.result(PATIENCE)
            self._serving = None


@contextlib.contextmanager
def stage(app: ModuleType, fake: FakeHilos) -> Generator[Stage]:
    """A stage on which nothing is started yet."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(fake):
        it = Stage(portal, fake, app)
        try:
            yield it
        finally:
            it.stop()


class Page:
    """The board as a person sees it."""

    def __init__(self, window: Browser, it: Stage) -> None:
        self.window = window
        self.it = it
        self.expected = ""

    def expects_in_complaint(self, text: str) -> bool:
        return bool(self.expected) and self.expected in text

    def open(self) -> None:
        self.window.driver.get(self.it.url)

    def row(self, id: str) -> str:
        """The selector of a campaign."""
        return f'tbody:has([title="{id}"])'

    def text(self, selector: str) -> str:
        return self.window.text(selector)

    def shows(self, text: str, selector: str = "body") -> None:
        try:
            self.window.wait_for(lambda: text in self.text(selector), f"{text!r} in {selector}")
        except TimeoutException as error:
            error.msg = f"{error.msg}; the page says:\n{self.text('body')}"
            raise

    def width(self, selector: str) -> float:
        """How much of what is around it an element fills, 0 to 1."""
        found = self.window.run(
            "const it = document.querySelector(arguments[0]).getBoundingClientRect();"
            "const all = document.querySelector(arguments[0]).parentElement.getBoundingClientRect();"
            "return it.width / all.width",
            selector,
        )
        return float(cast("float", found))


def counted(fake: FakeHilos, id: str, status: str, *counts: int, **fields: object) -> None:
    """Fix a campaign's status and its six counts; what is left out is 0."""
    given = dict.fromkeys(COUNTS, 0) | dict(zip(COUNTS, counts, strict=False))
    fake.put(id, status=status, **given, **fields)


def named(fake: FakeHilos, id: str, name: str) -> dict[str, object]:
    return cast("dict[str, object]", fake.document(id)["flow"]) | {"name": name}
