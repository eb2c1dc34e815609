"""The reference's tables hold what the docstrings say of each argument and field."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.markdown_blocks import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

griffe = pytest.importorskip("griffe")

SOURCE = '''
def ask(id, *, timeout=None, max_age=0.0, max_age_ended=None, session=None, trust=False, **more):
    """Ask for it.

    ``timeout`` is in seconds. ``max_age`` accepts an answer of so many seconds ago, ``max_age_ended``
    one of another age. Nothing is sent twice.

    Through what:

    - ``session``: one of yours, else one is made with ``trust``. It is left open.

    Raises ``ValueError``.
    """

def one(id):
    """Ask for ``id``."""

class Card:
    """What is shown."""

    title: str
    """Never empty."""
    count: int = 0

    def close(self):
        """Close it."""
'''


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(ROOT / "docs")
    extensions = griffe.load_extensions(importlib.import_module("reference_tables").Tables)
    with griffe.temporary_visited_package(
        "shop", {"__init__.py": SOURCE}, extensions=extensions
    ) as package:
        yield package
    sys.modules.pop("reference_tables", None)


def rows(docstring: str) -> dict[str, str]:
    """What stands in the rows of its last section."""
    lines = docstring.splitlines()
    table = lines[
        max(lines.index(name) for name in ("Args:", "Attributes:") if name in lines) + 1 :
    ]
    return {
        name.strip(): words.strip() for name, _, words in (line.partition(":") for line in table)
    }


def test_a_row_has_what_is_said_of_that_argument_and_the_text_has_the_rest(package: Any) -> None:
    told = package["ask"].docstring.value
    assert rows(told) == {
        "id": "",
        "timeout": "in seconds.",
        "max_age": "accepts an answer of so many seconds ago",
        "max_age_ended": "one of another age.",
        "session": "one of yours, else one is made with ``trust``. It is left open.",
        "trust": "see ``session``",
        "**more": "",
    }
    text = told.partition("Args:")[0]
    assert " ".join(text.split()) == "Ask for it. Nothing is sent twice. Raises ``ValueError``."


def test_a_single_argument_that_the_text_explains_needs_no_table(package: Any) -> None:
    assert package["one"].docstring.value == "Ask for ``id``."


def test_fields_are_rows_and_methods_are_not(package: Any) -> None:
    assert rows(package["Card"].docstring.value) == {"title": "Never empty.", "count": ""}
    assert package["Card.title"].docstring is None
    assert package["Card.close"].docstring.value == "Close it."
