"""A real browser, driven: Debian's Chromium through its own driver; nothing is downloaded.

Knows how to open one, how to make it a phone or a night, and what it measured, asked for and
complained of. Refuses to know any page.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.command import Command
from selenium.webdriver.support.wait import WebDriverWait

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

BINARY, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = "Chromium or its driver is missing: apt-get install chromium chromium-driver"
PATIENCE = 30.0

# The ratio of WCAG 2 between each text and what is painted behind it: the text, and how it compares.
_CONTRASTS = """
const channel = (value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
const luminance = (colour) => {
  const [red, green, blue] = parts(colour).map((value) => channel(value / 255));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
const behind = (element) => {
  for (; element; element = element.parentElement) {
    const colour = getComputedStyle(element).backgroundColor;
    const opacity = parts(colour)[3] ?? 1;
    if (opacity === 1) return colour;
    if (opacity > 0) throw new Error(`cannot judge the half-transparent ${colour}`);
  }
  throw new Error("nothing is painted behind");
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
  if (!text || !element.checkVisibility()) continue;
  const [one, two] = [getComputedStyle(element).color, behind(element)].map(luminance);
  found.push([text, (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05)]);
}
return found;
"""


class Browser:
    """One window of Chromium."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def run(self, script: str, *args: object) -> object:
        """Run JavaScript in the page; gives what it returns."""
        return self.driver.execute_script(script, *args)

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition of the page holds."""
        WebDriverWait(self.driver, PATIENCE, 0.05).until(lambda _: condition(), what)

    def text(self, selector: str) -> str:
        """The text of the first such element as a person sees it; "" if it cannot be seen."""
        return self.driver.find_element(By.CSS_SELECTOR, selector).text

    def sized(self, width: int, height: int, scale: float = 1.0) -> None:
        """Make the window so large, in CSS pixels; narrower than Chromium's own least, too."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def prefers(self, **features: str) -> None:
        """Answer the page's media queries: `color_scheme="dark"`, `reduced_motion="reduce"`."""
        given = [
            {"name": f"prefers-{name.replace('_', '-')}", "value": value}
            for name, value in features.items()
        ]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": given})

    def contrasts(self) -> list[tuple[str, float]]:
        """Every text that can be seen, and its contrast as WCAG computes it."""
        return [(text, ratio) for text, ratio in self.driver.execute_script(_CONTRASTS)]

    def complaints(self) -> list[str]:
        """What the console says since this was last asked."""
        return [entry["message"] for entry in self._logged("browser")]

    def hosts_asked(self) -> set[str]:
        """The hosts and ports that were asked for anything since this was last asked."""
        events = (json.loads(e["message"])["message"] for e in self._logged("performance"))
        urls = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return {urlsplit(url).netloc for url in urls if not url.startswith(("data:", "about:"))}

    def _logged(self, kind: str) -> list[dict[str, str]]:
        answer: dict[str, list[dict[str, str]]]
        answer = self.driver.execute(Command.GET_LOG, {"type": kind})
        return answer["value"]


@contextlib.contextmanager
def browser() -> Generator[Browser]:
    """Open a browser, and close it with the block."""
    assert BINARY is not None
    options = webdriver.ChromeOptions()
    options.binary_location = BINARY
    # Without --no-sandbox it does not start for root, as whom CI runs.
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--lang=en-US",
        "--hide-scrollbars",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
