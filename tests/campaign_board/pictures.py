"""The board's pictures in the documentation: `python -m tests.campaign_board.pictures` renews them."""

from __future__ import annotations

import time

import pytest

from hilos_async._many import watch
from hilos_async.testing import FakeHilos, FakeLimit, Fault
from tests.browser import Browser, browser
from tests.campaign_board.stage import EXAMPLE, modules, stage
from tests.markdown_blocks import ROOT

ASSETS = ROOT / "docs" / "assets"


def _photograph(window: Browser, name: str, width: int, most: int, **features: str) -> None:
    window.prefers(reduced_motion="reduce", **features)
    window.sized(width, 100)
    height = window.run("return document.documentElement.scrollHeight")
    assert isinstance(height, int)
    window.sized(width, min(height, most), scale=1.5)
    window.driver.save_screenshot(str(ASSETS / f"campaign-board-{name}.png"))


def main() -> None:
    """Photograph a board whose campaigns are half through, and were asked a dozen times until then."""
    ids = (EXAMPLE / "ids.txt").read_text().split()[:9]
    began = time.monotonic()
    moment = began

    def clock() -> float:
        return moment + time.monotonic() - began

    faults = [Fault.status(500, ids=[ids[3]])]
    fake = FakeHilos(limit=FakeLimit(5), lifetime=3_600, clock=clock, faults=faults)
    with (
        modules() as (app, _),
        stage(app, fake) as it,
        browser() as window,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(watch, "SOONEST", 0.2)
        patch.setattr(watch, "LATEST", 0.5)
        moment += 400
        fake.put(ids[1], status="CANCELED", status_reason="Template paused by the provider")
        fake.put(ids[7], status="AWAITING_CONFIRMATION")
        it.start(ids, pace="learn")
        window.driver.get(it.url)
        window.wait_for(lambda: "learned" in window.text("#asking"), "a learned limit")
        window.wait_for(lambda: "Not asked yet" not in window.text("#campaigns"), "all to be asked")
        for _ in range(12):
            moment += 150
            enough = fake.requests + len(ids)
            window.wait_for(lambda: fake.requests >= enough, "all to be asked again")  # noqa: B023
        _photograph(window, "light", 1_080, 700, color_scheme="light")
        _photograph(window, "dark", 1_080, 700, color_scheme="dark")
        _photograph(window, "phone", 360, 1_000, color_scheme="dark")


if __name__ == "__main__":
    main()
