"""The fenced blocks of a Markdown file, as a reader copies them.

Knows fences, and the HTML comment that keeps a block from being run. Refuses to know what is in a
block.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[a-z]+)(?P<info>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.M | re.S,
)
_TITLE = re.compile(r'title="([^"]+)"')
# The one way to keep a block from being run says why: <!-- not run: it needs a real account -->
_NOT_RUN = re.compile(r"<!-- not run: \S[^\n]*-->\s*\Z")


@dataclass(frozen=True)
class Block:
    """One fenced block: where it stands, what it says, and the text block right below it, if any."""

    path: Path
    line: int  # of its first line
    language: str
    text: str
    output: str | None
    is_run: bool
    title: str | None  # the file that the page says it is

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"

    @property
    def source(self) -> str:
        """The text, moved down so that a traceback names the page's own lines."""
        return "\n" * (self.line - 1) + self.text


def blocks(*languages: str) -> list[Block]:
    """All blocks in these languages, page by page."""
    return [block for path in PAGES for block in _blocks_of(path) if block.language in languages]


def _blocks_of(path: Path) -> list[Block]:
    page = path.read_text(encoding="utf-8")
    fences = list(_FENCE.finditer(page))
    found: list[Block] = []
    for number, fence in enumerate(fences):
        following = fences[number + 1] if number + 1 < len(fences) else None
        is_output = (
            following is not None
            and following["language"] == "text"
            and not page[fence.end() : following.start()].strip()
        )
        found.append(
            Block(
                path,
                page.count("\n", 0, fence.start("text")) + 1,
                fence["language"],
                _dedent(fence),
                _dedent(following) if following is not None and is_output else None,
                _NOT_RUN.search(page[: fence.start()]) is None,
                title[1] if (title := _TITLE.search(fence["info"])) else None,
            )
        )
    return found


def _dedent(fence: re.Match[str]) -> str:
    return re.sub(rf"^{fence['indent']}", "", fence["text"], flags=re.M)
