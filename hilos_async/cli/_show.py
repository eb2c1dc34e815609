"""What the commands write: data to standard output, messages to standard error.

Knows what a terminal is and how the two streams can fail. Refuses to know tables, and asyncio.
"""

from __future__ import annotations

import importlib
import io
import os
import re
import shutil
import sys
import textwrap
from typing import Final, TextIO

# The exit codes that `hilos --help` explains.
FAILED: Final = 1
USAGE: Final = 2
REFUSED: Final = 3
UNREACHABLE: Final = 4
UNKNOWN: Final = 5
INTERRUPTED: Final = 130  # as a shell counts it: 128 and the signal's number
_BROKEN_PIPE: Final = 141

# Control characters, line separators, and what turns the direction of writing round.
_MOVES_CURSOR: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class CommandError(Exception):
    """Ends the command: a message for the user ("" for none) and an exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def prepare() -> None:
    """Let a character that a stream's encoding lacks become a question mark, not an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def data(text: str, *, utf8: bool = False) -> None:
    """Write to standard output, now; ``utf8`` whatever the stream's encoding is.

    Raises ``CommandError`` if that fails, without a message if only the reader is gone.
    """
    stream: TextIO | None = sys.stdout
    if stream is None:  # closed by whoever started us
        return
    try:
        if utf8:
            stream.flush()
            stream.buffer.write(text.encode())
        else:
            stream.write(text)
        stream.flush()
    except BrokenPipeError as error:
        _discard(stream)
        raise CommandError("", _BROKEN_PIPE) from error
    except OSError as error:
        _discard(stream)
        raise CommandError(f"the output cannot be written: {error.strerror}", FAILED) from error


def message(text: str) -> None:
    """Tell the user something on standard error; if nobody can read it, nothing happens."""
    note("".join(_filled("hilos: ", line, sys.stderr) for line in text.splitlines()))


def note(text: str) -> None:
    """Write to standard error as it is, now; if nobody can read it, nothing happens."""
    stream: TextIO | None = sys.stderr
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        _discard(stream)


def end_line() -> None:
    """End the line in which the terminal has echoed ``^C``."""
    if is_terminal(sys.stderr):
        note("\n")


def _discard(stream: TextIO) -> None:
    # What is still in the buffer would fail again, and loudly, when Python flushes it at its end.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person watches the stream, on something that can draw."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def width() -> int:
    """The terminal's columns."""
    return shutil.get_terminal_size().columns


def has_rich() -> bool:
    """Whether rich (the extra ``cli``) is installed; the first question imports it."""
    try:
        importlib.import_module("rich")
    except ImportError:
        return False
    return True


def paragraph(label: str, text: str) -> None:
    """Print text beside a label."""
    labels = [label] + [" " * len(label)] * text.count("\n")
    lines = zip(labels, text.split("\n"), strict=True)
    data("".join(_filled(label, line, sys.stdout) for label, line in lines))


def prose(text: str) -> None:
    """Print text for people, each line of it broken between words where a terminal is narrower."""
    data("".join(_filled("", line, sys.stdout) for line in text.splitlines()))


def _filled(label: str, text: str, stream: TextIO | None) -> str:
    """A label and a text, on a terminal broken between words, so that ids stay whole."""
    if not is_terminal(stream):
        return f"{label}{clean(text)}\n"
    lines = textwrap.wrap(
        label + clean(text),
        width(),
        subsequent_indent=" " * min(len(label), width() // 8),  # room for an id on a narrow one
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines) + "\n"


def clean(text: str) -> str:
    """Text of the API or the user without what would move a terminal's cursor."""
    return _MOVES_CURSOR.sub("\N{REPLACEMENT CHARACTER}", text)
