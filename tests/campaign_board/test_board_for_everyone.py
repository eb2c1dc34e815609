"""Who can use the campaign board: on a phone, in the dark, by keyboard, with a screen reader."""

from __future__ import annotations

import http.client
import re
from typing import cast

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from hilos_async.testing import Fault
from tests.browser import PATIENCE
from tests.campaign_board.stage import IDS, Page, Stage, counted, named, needs_browser

ONE, TWO, THREE, FOUR, *_ = IDS


@pytest.fixture
def troubled(page: Page) -> Page:
    """A page with all there is to see: long names, failures, every status, and a lost connection."""
    fake = page.it.fake
    fake.put(ONE, flow=named(fake, ONE, "Año nuevo: promoción de invierno (clientes nuevos)"))
    counted(fake, ONE, "AWAITING_CONFIRMATION", 12_345_678)
    fake.put(TWO, flow=named(fake, TWO, "Donaudampfschifffahrtsgesellschaft" * 4))
    counted(fake, TWO, "RUNNING", 87_654_321, *[10_000_001] * 5)
    counted(fake, THREE, "CANCELED", 50, 10, 0, 0, 0, 40, status_reason="Paused by a user")
    fake.faults.append(Fault.status(500, detail="x" * 90, ids=[FOUR]))
    fake.remove(IDS[4])
    page.it.start(IDS)
    page.open()
    page.shows("Failing 2", "#show")
    fake.revoke()
    page.shows("Nothing is asked any more", "[role=alert]")
    page.it.stop()
    page.expected = "ERR_CONNECTION_REFUSED"
    page.shows("No connection", "#connection")
    return page


@needs_browser
def test_nothing_is_wider_than_the_screen_from_a_phone_up(troubled: Page) -> None:
    for width in (1_080, 900, 360, 320):
        troubled.window.sized(width, 800)
        wide = troubled.window.run(
            "return [...document.querySelectorAll('body *')]"
            ".filter((it) => it.checkVisibility() && it.getBoundingClientRect().right > innerWidth)"
            ".map((it) => it.outerHTML)"
        )
        assert wide == []
        assert troubled.window.run("return document.documentElement.scrollWidth") == width
    assert "Awaiting confirmation" in troubled.text(troubled.row(ONE))


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1_080, 360])
def test_every_text_has_the_contrast_of_wcag_aa(troubled: Page, scheme: str, width: int) -> None:
    troubled.window.sized(width, 800)
    troubled.window.prefers(color_scheme=scheme)
    contrasts = troubled.window.contrasts()
    assert len(contrasts) > 50
    assert [(text, ratio) for text, ratio in contrasts if ratio < 4.5] == []
    background = troubled.window.run("return getComputedStyle(document.body).backgroundColor")
    assert ("246" in str(background)) == (scheme == "light")


@needs_browser
def test_the_keyboard_reaches_everything_in_order_and_shows_where_it_is(page: Page) -> None:
    fake = page.it.fake
    counted(fake, ONE, "COMPLETED", 10, 10)
    counted(fake, TWO, "RUNNING", 10, 5)
    page.it.start([ONE, TWO])
    page.open()
    page.shows("All 2", "#show")
    run = page.window.run
    interactive = run(
        "return document.querySelectorAll('a, button, input, select, [tabindex]').length"
    )
    reached: list[str] = []
    for _ in range(cast("int", interactive)):
        ActionChains(page.window.driver).send_keys(Keys.TAB).perform()
        reached.append(str(run("return document.activeElement.value")))
        outline = "getComputedStyle(document.activeElement)"
        assert run(f"return {outline}.outlineStyle") == "solid"
        assert run(f"return {outline}.outlineWidth") == "2px"
    assert reached == ["all", "going", "ended", "failing", "", "given"]
    back = ActionChains(page.window.driver).key_down(Keys.SHIFT).send_keys(Keys.TAB, Keys.TAB)
    back.key_up(Keys.SHIFT).send_keys(Keys.ENTER).perform()
    assert page.text("#none") == "No campaign is like that now."
    back = ActionChains(page.window.driver).key_down(Keys.SHIFT).send_keys(Keys.TAB)
    back.key_up(Keys.SHIFT).send_keys(Keys.SPACE).perform()
    assert page.text("#none") == ""
    assert page.text(page.row(ONE)) != ""
    assert page.text(page.row(TWO)) == ""
    counted(fake, TWO, "COMPLETED", 10, 10)
    page.shows("Completed", page.row(TWO))


@needs_browser
def test_screen_readers_are_told_what_a_bar_says_and_not_told_too_much(page: Page) -> None:
    counted(page.it.fake, ONE, "RUNNING", 200, 50)
    page.it.start([ONE])
    page.open()
    page.shows("25%", page.row(ONE))
    driver = page.window.driver
    bar = driver.find_element("css selector", f"{page.row(ONE)} [role=progressbar]")
    name = page.text(f"{page.row(ONE)} .name")
    assert (bar.accessible_name, bar.aria_role) == (name, "progressbar")
    assert bar.get_attribute("aria-valuenow") == "25"
    assert bar.get_attribute("aria-valuetext") == "25% of 200 contacts"
    live = driver.find_elements("css selector", "[role=status], [role=alert], [aria-live]")
    assert [element.get_attribute("id") for element in live] == ["connection", "stopped"]


@needs_browser
def test_who_wants_less_motion_gets_none(page: Page) -> None:
    page.it.start([ONE])
    page.open()
    page.shows("All 1", "#show")
    moving = "return getComputedStyle(document.querySelector('.bar i')).transitionDuration"
    assert page.window.run(moving) == "0.5s"
    page.window.prefers(reduced_motion="reduce")
    assert page.window.run(moving) == "0s"


def test_the_page_may_load_nothing_from_elsewhere(it: Stage) -> None:
    it.start([])
    connection = http.client.HTTPConnection("127.0.0.1", it.port, timeout=PATIENCE)
    connection.request("GET", "/")
    answer = connection.getresponse()
    html = answer.read().decode()
    connection.close()
    policy = answer.headers["Content-Security-Policy"]
    assert policy == "default-src 'self'; frame-ancestors 'none'"
    assert "http" not in html.replace("http-equiv", "")
    assert not re.search(r"\son\w+=|\sstyle=|<style|<script>", html)
