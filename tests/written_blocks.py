"""The Python blocks of the pages as files, for type checkers: `python -m tests.written_blocks FOLDER`.

The lines of a file have the numbers that they have on the page. Left out is only `before.py`, the code
that a page is there to replace.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from tests.markdown_blocks import ROOT, Block, blocks

_PYRIGHT = {
    "pythonVersion": "3.11",
    "typeCheckingMode": "strict",
    "reportMissingTypeStubs": False,
    "reportUnusedFunction": False,
    # Not every package that a page uses is typed throughout.
    "reportUnknownArgumentType": False,
    "reportUnknownMemberType": False,
    "reportUnknownVariableType": False,
}


def file_name(block: Block) -> str:
    """The page and the line; on the tutorial the name that it gives, as its files import each other."""
    if block.path.name == "tutorial.md" and block.title:
        return block.title
    page = "_".join(block.path.relative_to(ROOT).with_suffix("").parts)
    return f"{page.replace('-', '_')}_{block.line}.py"


def write(folder: Path) -> None:
    """Write every block, and the settings that pyright reads there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for block in blocks("python"):
        if block.title != "before.py":
            (folder / file_name(block)).write_text(block.source, encoding="utf-8")
    (folder / "pyrightconfig.json").write_text(json.dumps(_PYRIGHT), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
