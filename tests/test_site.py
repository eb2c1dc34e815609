"""The site as it is built and as a browser shows it. Needs what `nox -s docs` installs."""

from __future__ import annotations

import functools
import http.server
import json
import re
import subprocess
import sys
import threading
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from tests.markdown_blocks import PAGES, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.browser import Browser

pytest.importorskip("mkdocs")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings_handlers.python")

DOCS = PAGES[1:]
ORIGIN = "http://site.invalid/"


class Page(HTMLParser):
    """What a page links to, loads and can be linked at."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.description = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "preconnect", "icon"):
            self.loads.append(given["href"])
        elif given.get("src"):
            self.loads.append(given["src"])
        if tag == "meta" and given.get("name") == "description":
            self.description = given["content"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `nox -s docs` does: a warning is an error."""
    directory = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(directory)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return directory


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    """Each page by its URL below the root: `""`, `"batches/"`, …"""
    found = {path.parent.relative_to(site).as_posix(): path for path in site.glob("**/index.html")}
    return {f"{url}/" if url != "." else "": Page(path) for url, path in found.items()}


def test_every_link_and_anchor_inside_the_site_resolves(site: Path, pages: dict[str, Page]) -> None:
    for url, page in pages.items():
        for link in page.links:
            target = urlsplit(urljoin(ORIGIN + url, link))
            if target.netloc != urlsplit(ORIGIN).netloc:
                continue
            path = unquote(target.path).removeprefix("/")
            assert path in pages or (site / path).is_file(), f"{url} links to {link}"
            if target.fragment and path in pages:
                assert unquote(target.fragment) in pages[path].anchors, f"{url} links to {link}"


def test_no_page_loads_anything_from_another_host(pages: dict[str, Page]) -> None:
    for url, page in pages.items():
        for loaded in page.loads:
            assert urlsplit(loaded).netloc == "", f"{url} loads {loaded}"


def test_each_page_is_described_by_its_first_paragraph(pages: dict[str, Page]) -> None:
    descriptions = [page.description for page in pages.values()]
    assert len(set(descriptions)) == len(descriptions)
    for url, page in pages.items():
        assert len(page.description) > 40, f"{url} is described as {page.description!r}"


def test_llms_txt_has_every_page_and_each_link_leads_somewhere(
    site: Path, pages: dict[str, Page]
) -> None:
    lines = (site / "llms.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# hilos_async"
    assert lines[2].startswith("> ")
    entries = [re.fullmatch(r"- \[([^]]+)\]\(([^)]+)\): (.+)", li) for li in lines if li[:1] == "-"]
    links = [entry[2] for entry in entries if entry is not None]
    assert len(links) == len(entries) == len(DOCS)
    assert {link.removeprefix("./") for link in links} == set(pages)
    headings = [line for line in lines if line.startswith("#")]
    assert all(re.match("# |## ", heading) for heading in headings)


def test_llms_full_txt_is_the_pages_in_one_file(site: Path) -> None:
    text = (site / "llms-full.txt").read_text(encoding="utf-8")
    assert "--8<--" not in text
    assert ":::" not in text
    for path in DOCS:
        heading = path.read_text(encoding="utf-8").lstrip().splitlines()[0]
        if heading.startswith("# "):
            assert f"\n{heading}\n" in text
    assert "\n# Changelog\n" in text


def test_the_search_index_holds_every_page(site: Path, pages: dict[str, Page]) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    texts: dict[str, str] = {}
    for entry in index["docs"]:
        url = entry["location"].partition("#")[0]
        texts[url] = texts.get(url, "") + entry["text"]
    assert set(texts) == set(pages)
    assert min(map(len, texts.values())) > 500


# --- in a browser

_FOUND = """
return [...document.querySelectorAll('.md-search-result__link')]
  .some(link => link.href.includes(arguments[0]));
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    pytest.importorskip("selenium")
    from tests.browser import BINARY, DRIVER, MISSING, browser

    if BINARY is None or DRIVER is None:
        pytest.skip(MISSING)
    with browser() as opened:
        yield opened


def test_the_search_finds_a_page_by_a_word_of_it(chromium: Browser, served: str) -> None:
    chromium.sized(1280, 900)
    chromium.driver.get(f"http://{served}/")
    for word, url in (("jitter", "errors/"), ("Celery", "migrating/"), ("RedisPacer", "fleets/")):
        chromium.run(
            "const field = document.querySelector('.md-search__input');"
            "field.focus(); field.value = arguments[0]; field.dispatchEvent(new Event('keyup'));",
            word,
        )
        found = functools.partial(chromium.run, _FOUND, url)
        chromium.wait_for(found, f"the search for {word} finds {url}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_a_phone_or_asks_another_host(
    chromium: Browser, served: str, pages: dict[str, Page], scheme: str
) -> None:
    chromium.sized(360, 800)
    chromium.prefers(color_scheme=scheme)
    chromium.hosts_asked()
    for url in pages:
        chromium.driver.get(f"http://{served}/{url}")
        width = chromium.run("return document.documentElement.scrollWidth")
        assert width == 360, f"{url} is {width} wide"
        shown = chromium.run("return document.body.dataset.mdColorScheme")
        assert shown == {"light": "default", "dark": "slate"}[scheme]
    assert chromium.hosts_asked() == {served}


@pytest.mark.parametrize(("url", "chart"), [("performance/", "speed"), ("pace/", "pacing")])
def test_no_text_of_a_chart_is_smaller_than_11_pixels_on_a_phone(
    chromium: Browser, served: str, chart: str, url: str
) -> None:
    chromium.sized(390, 844)
    chromium.driver.get(f"http://{served}/{url}")
    picture = "document.querySelector(arguments[0])"
    selector = f"img[src$='{chart}.svg']"
    chromium.wait_for(lambda: chromium.run(f"return {picture}.complete", selector), "the picture")
    shown = chromium.run(f"return {picture}.width", selector)
    assert isinstance(shown, int)
    svg = (ROOT / "docs" / "assets" / f"{chart}.svg").read_text(encoding="utf-8")
    width = re.search(r'viewBox="0 0 (\d+)', svg)
    assert width is not None
    sizes = [float(size) for size in re.findall(r"font(?:-size)?: ([\d.]+)px", svg)]
    assert len(sizes) > 2
    assert min(sizes) * shown / int(width[1]) >= 11
