"""The ids a command is given: as arguments, in a file, on standard input; and how they are shown short.

Knows what files of ids look like in the wild: byte order marks, Windows line ends, blank lines, lines
that are no ids. Refuses to throw a line away: what is no id is told with its number and passed on.
"""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Final
from uuid import UUID

from hilos_async._checks import parse_id
from hilos_async.cli import _show
from hilos_async.cli._show import USAGE, CommandError
from hilos_async.errors import InvalidIdError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator, Iterable, Sequence
    from typing import BinaryIO

_TOLD: Final = 10  # lines that are no ids, one by one; of the rest only the number


# argparse has no public name for what a parser and a group of options have in common.
def configure(parser: argparse._ActionsContainer) -> None:  # pyright: ignore[reportPrivateUsage]
    """Give a command, or a group of its options, the one that names a file of ids."""
    parser.add_argument(
        "--ids",
        dest="file",
        metavar="FILE",
        help="read ids from this file, one a line; - is standard input",
    )


def checked(texts: Iterable[str], noun: str = "execution") -> list[UUID]:
    """Ids from the command line, each once; ``CommandError`` that names every text that is none."""
    ids: dict[UUID, None] = {}
    wrong: list[str] = []
    for text in texts:
        try:
            ids[parse_id(text, noun)] = None
        except InvalidIdError as error:
            wrong.append(str(error))
    if wrong:
        raise CommandError("\n".join([*wrong, "nothing was looked up"]), USAGE)
    return list(ids)


def given(texts: list[str], file: str | None) -> list[UUID | str]:
    """The ids of the arguments, then those of the file, each once; with lines that are none.

    Raises ``CommandError`` if there are none at all.
    """
    if not texts and file is None:
        raise CommandError(
            "no ids: give some, or --ids FILE (- for standard input, one id a line)", USAGE
        )
    ids: dict[UUID | str, None] = dict.fromkeys(checked(texts))
    if file is not None:
        ids.update(dict.fromkeys(in_file(file)))
    return list(ids)


def short(ids: Sequence[UUID | str]) -> dict[UUID | str, str]:
    """The ids, short where that tells them apart: their first 8 digits, or their last 12."""
    for part in (slice(8), slice(-12, None)):
        shown = {
            id: _show.clean(str(id))[part if isinstance(id, UUID) else slice(12)] for id in ids
        }
        if len(set(shown.values())) == len(shown):
            return shown
    return {id: _show.clean(str(id)) for id in ids}


def short_texts(ids: Sequence[str]) -> list[str]:
    """The same for a column of UUIDs as text."""
    shown = short([UUID(id) for id in ids])
    return [shown[UUID(id)] for id in ids]


def in_file(name: str) -> Generator[UUID | str, None, None]:
    """The ids of a file, one by one; a line that is none as its text, told with its number.

    Raises ``CommandError`` for a file that cannot be read or has no line.
    """
    shown = "standard input" if name == "-" else name
    wrong = 0
    is_empty = True
    try:
        with opened(name) as lines:
            for number, line in enumerate(lines, 1):
                text = line.strip()
                if not text:
                    continue
                is_empty = False
                try:
                    yield parse_id(text)
                except InvalidIdError as error:
                    wrong += 1
                    if wrong <= _TOLD:
                        _show.message(f"{shown}, line {number}: {error}")
                    yield text
    except OSError as error:
        raise CommandError(f"the ids cannot be read: {shown}: {error.strerror}", USAGE) from error
    if is_empty:
        raise CommandError(f"{shown} holds no ids: one a line is wanted", USAGE)
    if wrong > _TOLD:
        _show.message(f"{shown}: {wrong - _TOLD:,} more lines are no ids")


def opened(name: str) -> io.TextIOWrapper:
    """A file of lines, or standard input for ``-``, in UTF-8 or, if it says so, UTF-16."""
    binary: BinaryIO = open(0 if name == "-" else name, "rb", closefd=name != "-")  # noqa: SIM115
    if name == "-" and _show.is_terminal(sys.stdin):
        _show.message("reading ids from the terminal, one a line; Ctrl-D ends them")
    assert isinstance(binary, io.BufferedReader)
    # Notepad's "Unicode" is UTF-16; its mark says so, and UTF-8's would stick to the first id.
    is_utf16 = binary.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff")
    return io.TextIOWrapper(
        binary, encoding="utf-16" if is_utf16 else "utf-8-sig", errors="replace"
    )
