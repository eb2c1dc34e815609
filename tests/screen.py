"""What a person sees: a terminal's lines after all that was written to it.

As much of a terminal as the `hilos` command uses, and an error for the rest.
"""

import re

_PART = re.compile(r"\x1b\[(?P<numbers>[0-9;?]*)(?P<command>[A-Za-z])|(?P<text>[\s\S])")


def screen(written: str) -> list[str]:
    """The lines, those that have scrolled away included, without trailing spaces."""
    rows: list[list[str]] = [[]]
    row = column = 0
    for part in _PART.finditer(written):
        text, command, numbers = part["text"], part["command"], part["numbers"]
        if text == "\r":
            column = 0
        elif text == "\n":
            row, column = row + 1, 0
            if row == len(rows):
                rows.append([])
        elif text is not None:
            assert text.isprintable(), f"{text!r} on a terminal"
            line = rows[row]
            line.extend(" " * (column + 1 - len(line)))
            line[column] = text
            column += 1
        elif command == "A":
            row = max(0, row - int(numbers or 1))
        elif command == "K":
            assert numbers == "2", part[0]
            rows[row] = []
        else:
            assert command == "m" or numbers == "?25", f"{part[0]!r} is not known here"
    return ["".join(line).rstrip() for line in rows]
