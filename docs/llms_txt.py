"""llms.txt and llms-full.txt at the site's root, and a description for each page: an mkdocs hook.

It knows the navigation and what opens a page: a page's first paragraph is its description, here and
for search engines. The form is that of https://llmstxt.org. It refuses to say anything that no page
says.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.nav import Navigation
    from mkdocs.structure.pages import Page
    from mkdocs.utils.templates import TemplateContext

_INCLUDED = re.compile(r'^(?P<indent> *)--8<-- "(?P<path>[^"\n]+)"$', re.M)
_PARAGRAPH = re.compile(r"(?:\A|\n\n)((?!```|[#|>!=<:-])\S.*?)(?:\n\n|\s*\Z)", re.S)
_LINK = re.compile(r"\[([^]]+)\]\([^)]+\)")


def on_page_markdown(
    markdown: str, *, page: Page, config: MkDocsConfig, files: Files
) -> str | None:
    """Describe a page by its first paragraph."""
    page.meta["description"] = _first_paragraph(_included(markdown))
    return None


def on_page_context(
    context: TemplateContext, *, page: Page, config: MkDocsConfig, nav: Navigation
) -> TemplateContext | None:
    """Write both files with the first page, when all pages have been read."""
    if page.is_homepage:
        site = Path(config.site_dir)
        title = f"# {config.site_name}\n\n> {config.site_description}.\n"
        lines = "".join(_table_of_contents(nav))
        full = "[All pages but the reference in one file](llms-full.txt)"
        (site / "llms.txt").write_text(f"{title}\n{full}\n{lines}", encoding="utf-8")
        pages = [_included(page.markdown or "") for page in nav.pages]
        texts = [text.strip() + "\n" for text in pages if "\n::: " not in text]
        (site / "llms-full.txt").write_text("\n\n".join([title, *texts]), encoding="utf-8")
    return None


def _table_of_contents(nav: Navigation) -> Iterator[str]:
    heading = None
    for page in nav.pages:
        section = page.parent.title if page.parent else "Start"
        if section != heading:
            yield f"\n## {section}\n\n"
            heading = section
        yield f"- [{page.title}]({page.url or './'}): {page.meta['description']}\n"


def _first_paragraph(markdown: str) -> str:
    found = _PARAGRAPH.search(markdown)
    if found is None:
        raise ValueError(f"a page needs a paragraph that says what it is about: {markdown[:80]!r}")
    return re.sub(r"[*`]", "", _LINK.sub(r"\1", " ".join(found[1].split())))


def _included(markdown: str) -> str:
    """The Markdown with what its snippets stand for."""

    def text(found: re.Match[str]) -> str:
        lines = Path(found["path"]).read_text(encoding="utf-8").splitlines(keepends=True)
        return "".join(found["indent"] + line if line.strip() else line for line in lines)

    return _INCLUDED.sub(text, markdown)
