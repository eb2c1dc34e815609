"""What the tests of the board share: one browser, and for each test a board that moves quickly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hilos_async._many import watch as watch_module
from hilos_async.testing import FakeHilos
from tests.browser import Browser, browser
from tests.campaign_board.stage import Page, Stage, modules, stage

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with browser() as window:
        yield window


@pytest.fixture
def it(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A stage where a campaign is asked many times a second, and the page hears of it as often."""
    monkeypatch.setattr(watch_module, "SOONEST", 0.05)
    monkeypatch.setattr(watch_module, "LATEST", 0.2)
    with modules() as (app, board):
        monkeypatch.setattr(board, "TICK", 0.02)
        with stage(app, FakeHilos()) as it:
            yield it


@pytest.fixture
def page(chromium: Browser, it: Stage) -> Iterator[Page]:
    """The browser, in which nothing may be asked of other hosts, and nothing be complained of."""
    chromium.sized(1_080, 800)
    chromium.prefers()
    shown = Page(chromium, it)
    yield shown
    chromium.driver.get("about:blank")
    assert chromium.hosts_asked() <= {f"127.0.0.1:{it.port}"}
    complaints = [text for text in chromium.complaints() if not shown.expects_in_complaint(text)]
    assert complaints == []
