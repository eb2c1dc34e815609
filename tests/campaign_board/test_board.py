"""The campaign board in a real browser: what it shows, and what it survives."""

from __future__ import annotations

import contextlib
import http.client
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Event, Thread
from typing import TYPE_CHECKING, cast

import pytest

from hilos_async import RateLimit, errors
from hilos_async.testing import FakeLimit, Fault
from tests.browser import PATIENCE
from tests.campaign_board.stage import IDS, Page, Stage, counted, modules, named, needs_browser

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager

ONE, TWO, THREE, FOUR, *_ = IDS
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>&amp;"


# --- what it shows


@needs_browser
def test_bars_numbers_and_totals_move_until_a_campaign_has_ended(page: Page) -> None:
    fake = page.it.fake
    counted(fake, ONE, "RUNNING", 1_000, 100, 200, 20, 30, 50)
    counted(fake, TWO, "COMPLETED", 3_000, 3_000)
    page.it.start([ONE, TWO])
    page.open()
    row = page.row(ONE)
    page.shows("20%", row)
    page.shows("80%", "#totals")
    assert "of 4,000 contacts" in page.text("#totals")
    bars = [f"{row} .bar .{name}" for name in ("completed", "running", "canceled")]
    page.window.wait_for(
        lambda: [round(page.width(bar), 2) for bar in bars] == [0.1, 0.2, 0.05], "the bar"
    )
    assert re.findall(r"[\d,]+(?!\S)", page.text(f"{row} tr:first-child"))[-6:] == [
        "1,000", "100", "200", "20", "30", "50"
    ]  # fmt: skip
    counted(fake, ONE, "RUNNING", 1_000, 600, 200, 20, 30, 50)
    page.shows("70%", row)
    page.window.wait_for(lambda: page.width(f"{row} .bar .completed") > 0.59, "a longer bar")
    counted(fake, ONE, "COMPLETED", 1_000, 900, 0, 20, 30, 50)
    page.shows("Completed", f"{row} .status")
    page.shows("100%", "#totals")
    assert "Ended 2" in page.text("#show")
    asked = fake.requests
    time.sleep(0.3)  # six times as long as a campaign that moves is left alone here
    assert fake.requests == asked


@needs_browser
def test_a_failing_campaign_shows_its_reason_until_it_answers_again(page: Page) -> None:
    fake = page.it.fake
    fault = Fault.status(500, detail="The database is away.", ids=[ONE])
    fake.faults.append(fault)
    fake.remove(TWO)
    fake.put(THREE, status="CANCELED", status_reason="Template paused by the provider")
    counted(fake, FOUR, "RUNNING", 100, 10)
    page.it.start([ONE, TWO, THREE, FOUR, "nonsense"])
    page.open()
    page.shows("The database is away.", page.row(ONE))
    page.shows("It is asked again.", page.row(ONE))
    page.shows("This account has no such campaign.", page.row(TWO))
    assert "It is asked again." not in page.text(page.row(TWO))
    page.shows("Template paused by the provider", page.row(THREE))
    page.shows("'nonsense' is not the id of a campaign.", page.row("nonsense"))
    page.shows("Failing 3", "#show")
    page.shows("10%", page.row(FOUR))
    fake.faults.append(Fault.status(503, detail="Back soon.", ids=[FOUR]))
    page.shows("Back soon.", page.row(FOUR))
    assert "10%" in page.text(page.row(FOUR)), "what was seen before stays"
    counted(fake, ONE, "RUNNING", 100, 40)
    counted(fake, FOUR, "RUNNING", 100, 20)
    fake.faults.clear()
    page.shows("40%", page.row(ONE))
    page.shows("20%", page.row(FOUR))
    assert "The database is away." not in page.text("body")
    assert "Failing 2" in page.text("#show")
    for address in ("flow-execution", "GET ", "http", page.it.fake.base_url):
        assert address not in page.text("body")


@needs_browser
def test_a_line_shows_how_a_campaign_went_on(page: Page) -> None:
    fake = page.it.fake
    counted(fake, ONE, "RUNNING", 100, 10)
    counted(fake, TWO, "COMPLETED", 100, 100)
    page.it.start([ONE, TWO])
    page.open()
    for percent in (30, 50):
        page.shows(f"{percent - 20}%", page.row(ONE))
        counted(fake, ONE, "RUNNING", 100, percent)
    page.shows("50%", page.row(ONE))
    line = "return document.querySelector(arguments[0]).getAttribute(arguments[1])"
    points = str(page.window.run(line, f"{page.row(ONE)} polyline", "points")).split()
    heights = [float(point.partition(",")[2]) for point in points]
    assert heights[0] == 90
    assert heights[-1] == 50
    assert heights == sorted(heights, reverse=True)
    told = str(page.window.run(line, f"{page.row(ONE)} .trend svg", "aria-label"))
    assert told.startswith("From 10% to 50% in ")
    visible = "return document.querySelector(arguments[0]).checkVisibility()"
    assert page.window.run(visible, f"{page.row(ONE)} .trend svg")
    assert not page.window.run(visible, f"{page.row(TWO)} .trend svg"), "one point is no line"


SAID = "GET flow-execution/0: https://api.invalid"
OF_A_LOOKUP: list[errors.HilosError] = [
    errors.TransportError(SAID),
    errors.AttemptTimeoutError(SAID),
    *(kind(SAID, status=status) for kind, status in (
        (errors.StatusError, 400),
        (errors.AuthenticationError, 401),
        (errors.PermissionDeniedError, 403),
        (errors.NotFoundError, 404),
        (errors.RateLimitError, 429),
        (errors.ServerError, 503),
    )),
    errors.DecodeError(SAID, path="$.flow"),
    errors.ResponseTooLargeError(SAID, limit=1),
    errors.DeadlineExceededError(SAID),
    errors.SessionClosedError(SAID),
    errors.InvalidIdError(SAID),
]  # fmt: skip


@pytest.mark.parametrize("error", OF_A_LOOKUP, ids=lambda error: type(error).__name__)
def test_every_error_of_a_lookup_is_told_in_words_for_people(error: errors.HilosError) -> None:
    with modules() as (_, board):
        told = board._reason(error)
    assert told.endswith((".", "?"))
    assert "does not know" not in told
    assert SAID not in told


def test_a_line_gets_coarser_and_keeps_its_ends() -> None:
    with modules() as (_, board):
        it, row = board.Board([]), board.Row(ONE)
        for done in range(1_001):
            row.counts = dict.fromkeys(board.COUNTS, 0) | {"num_contacts": 1_000, "completed": done}
            it._mark(row)
            it._mark(row)  # nothing has moved: no point
        shares = [share for _, share in row.history]
        assert len(shares) <= board.POINTS
        assert (shares[0], shares[-1]) == (0, 1_000)
        assert shares == sorted(set(shares))


@needs_browser
def test_campaigns_are_found_and_sorted(page: Page) -> None:
    fake = page.it.fake
    names = {ONE: "Promoción de verano", TWO: "Bienvenida", THREE: "Ánimo"}
    for place, (id, name) in enumerate(names.items()):
        counted(fake, id, "RUNNING", 100 + place, 90 - 30 * place, flow=named(fake, id, name))
    fake.remove(FOUR)
    page.it.start([ONE, TWO, THREE, FOUR])
    page.open()
    page.shows("Failing 1", "#show")

    def order() -> list[str]:
        found = page.window.run(
            "return [...document.querySelectorAll('#campaigns tbody')]"
            ".filter((it) => it.checkVisibility()).map((it) => it.querySelector('th').title)"
        )
        return cast("list[str]", found)

    def choose(selector: str, value: str, event: str) -> None:
        page.window.run(
            "const it = document.querySelector(arguments[0]); it.value = arguments[1];"
            "it.dispatchEvent(new Event(arguments[2]))",
            selector,
            value,
            event,
        )

    assert order() == [ONE, TWO, THREE, FOUR]
    choose("#sort", "name", "change")
    assert order()[-3:] == [THREE, TWO, ONE]  # the one without a name is under its id
    choose("#sort", "least", "change")
    assert order()[:3] == [THREE, TWO, ONE]
    choose("#sort", "contacts", "change")
    assert order() == [THREE, TWO, ONE, FOUR]
    choose("#search", "PROMOCION", "input")
    assert order() == [ONE]
    page.shows("All 1", "#show")
    choose("#search", FOUR[-6:], "input")
    assert order() == [FOUR]
    choose("#search", "nothing like it", "input")
    assert page.text("#none") == "No campaign is like that now."
    choose("#search", "", "input")
    choose("#sort", "given", "change")
    assert order() == [ONE, TWO, THREE, FOUR]


@needs_browser
def test_a_refused_key_is_told_and_never_shown(page: Page) -> None:
    fake = page.it.fake
    fake.faults.append(Fault.status(500, ids=[ONE]))
    page.it.start(IDS)
    page.open()
    page.shows("It is asked again.", page.row(ONE))
    fake.revoke()
    page.shows("Nothing is asked any more", "[role=alert]")
    assert "It is asked again." not in page.text("body")
    assert "401" in page.text("[role=alert]")
    assert fake.token not in page.window.driver.page_source


@needs_browser
def test_the_pace_is_shown_known_learned_and_paused(page: Page) -> None:
    fake = page.it.fake
    page.it.start(IDS, pace=RateLimit(50))
    page.open()
    page.shows("50/s", "#asking")
    assert "learned" not in page.text("#asking")
    page.it.stop()
    page.expected = "ERR_CONNECTION_REFUSED"
    page.it.start(IDS, pace="learn")
    page.shows("no limit met yet", "#asking")
    page.it.stop()
    fake.limit = FakeLimit(4)
    page.it.start(IDS, pace="learn")
    page.shows("/s, learned", "#asking")
    page.it.stop()
    fake.faults.append(Fault.status(429, retry_after=60))
    page.it.start(IDS, pace="learn")
    page.shows("paused for 6", "#asking")


@needs_browser
def test_what_the_api_says_is_text_and_never_markup(page: Page) -> None:
    fake = page.it.fake
    flow = named(fake, ONE, HOSTILE)
    fake.put(ONE, flow=flow, status=HOSTILE, status_reason=HOSTILE)
    fake.faults.append(Fault.status(500, detail=HOSTILE, ids=[TWO]))
    page.it.start([ONE, TWO, HOSTILE.replace(" ", "/")])
    page.open()
    page.shows("onerror", page.row(ONE))
    page.shows("onerror", f"{page.row(TWO)} .reason")
    assert page.text(f"{page.row(ONE)} .name") == HOSTILE
    assert page.text(f"{page.row(ONE)} .reason") == HOSTILE
    assert page.window.run("return document.querySelectorAll('img, main script').length") == 0


@needs_browser
def test_no_address_of_a_person_reaches_the_browser(page: Page) -> None:
    page.it.start(IDS)
    page.open()
    page.shows("Campaign")
    events = page.window.run(
        "return fetch('/events').then(async ({body}) => {"
        "  const reader = body.getReader(); let text = '';"
        "  while (text.split('data: ').length < 3)"
        "    text += new TextDecoder().decode((await reader.read()).value);"
        "  await reader.cancel(); return text; })"
    )
    assert IDS[0] in str(events)
    assert "empresa.example" not in str(events)
    assert page.it.fake.token not in str(events)


# --- what it survives


@needs_browser
def test_many_browsers_cost_no_more_requests_and_a_late_one_gets_everything_at_once(
    page: Page,
) -> None:
    fake = page.it.fake
    for id in IDS:
        counted(fake, id, "COMPLETED", 10, 10)
    page.it.start(IDS)
    assert fake.requests == 0, "nobody looks, nobody asks"
    driver = page.window.driver
    first = driver.current_window_handle
    for _ in range(3):
        driver.switch_to.new_window("tab")
        page.open()
        page.shows("Ended 6", "#show")
    assert set(fake.asked.values()) == {1}
    for handle in driver.window_handles:
        if handle != first:
            driver.switch_to.window(handle)
            driver.close()
    driver.switch_to.window(first)


@contextlib.contextmanager
def nobody(port: int) -> Generator[Event]:
    """Nobody listens; the event says that no more has to happen."""
    event = Event()
    event.set()
    yield event


@contextlib.contextmanager
def bad_gateway(port: int) -> Generator[Event]:
    """What a proxy answers while the board behind it is started again; the event: it was asked."""
    asked = Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(502)
            asked.set()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", port), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


@needs_browser
@pytest.mark.parametrize("between", [nobody, bad_gateway])
def test_a_lost_connection_is_told_and_comes_back_with_the_full_state(
    page: Page, between: Callable[[int], AbstractContextManager[Event]]
) -> None:
    page.expected = "Failed to load resource"
    fake = page.it.fake
    counted(fake, ONE, "RUNNING", 100, 10)
    counted(fake, TWO, "RUNNING", 100, 10)
    page.it.start([ONE, TWO])
    page.open()
    page.shows("Live", "#connection")
    page.shows("In progress 2", "#show")
    page.it.stop()
    with between(page.it.port) as enough:
        page.shows("No connection", "#connection")
        assert "This is how it was at" in page.text("#connection")
        assert enough.wait(PATIENCE)
    counted(fake, ONE, "COMPLETED", 100, 100)
    page.it.start([ONE, THREE])
    page.shows("Live", "#connection")
    page.shows("Completed", page.row(ONE))
    page.shows("All 2", "#show")
    assert TWO not in page.window.driver.page_source


@needs_browser
def test_a_connection_that_says_nothing_for_long_counts_as_lost(page: Page) -> None:
    """A laptop that slept hears no end of the connection. Here its 40 seconds are 400 milliseconds."""
    quick = "const f = setTimeout; setTimeout = (g, ms) => f(g, ms > 9999 ? ms / 100 : ms)"
    driver = page.window.driver
    script = driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": quick})
    try:
        counted(page.it.fake, ONE, "COMPLETED", 10, 10)
        page.it.start([ONE])  # ended: there is nothing more to tell
        page.open()
        page.window.run(
            "window.said = []; const line = document.querySelector('#connection');"
            "new MutationObserver(() => said.push(line.textContent)).observe(line, {childList: true})"
        )
        lost_then_live = (
            "return said.slice(said.findIndex((line) => line.startsWith('No connection.')) + 1)"
            ".includes('Live') && said.some((line) => line.startsWith('No connection.'))"
        )
        page.window.wait_for(lambda: page.window.run(lost_then_live), "lost, then live")
    finally:
        driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_a_quiet_board_still_speaks_now_and_then(
    it: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies cut connections that are silent."""
    monkeypatch.setattr(sys.modules["board"], "KEEP_ALIVE", 0.1)
    counted(it.fake, ONE, "COMPLETED", 10, 10)
    it.start([ONE])
    connection = http.client.HTTPConnection("127.0.0.1", it.port, timeout=PATIENCE)
    connection.request("GET", "/events")
    answer = connection.getresponse()
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.headers["Cache-Control"] == "no-store"
    told: list[bytes] = []
    while len(told) < 5:  # one or two tell the state; it ends, or the read times out
        line = answer.readline()
        assert line, "the stream has ended"
        told += [line] if line.startswith(b"data: ") else []
    assert told[-1] == told[-2]
    answer.close()
    connection.close()
