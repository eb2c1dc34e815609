"""Arguments and fields as tables in the reference: an extension of griffe, which reads the source.

Docstrings here are prose. A sentence or a list item that begins with a name in backticks goes into the
row of that argument; what concerns several at once stays prose. The rows are handed on as the sections
`Args:` and `Attributes:`, which mkdocstrings makes tables of.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import griffe

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = re.compile(r"(?<!`)`{1,2}(\w+)`{1,2}(?!`)")
_LED = re.compile(r"(?:- )?(`+\w+`+(?:(?:, | and )`+\w+`+)*)(:|(?=\s))\s?(.*)", re.S)
_CLAUSE = re.compile(r"[,;]? and (?=`+\w+`+\s)|[,;]\s+(?=`+\w+`+\s)")  # "`a` is …, `b` the …"
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`])")


class Tables(griffe.Extension):
    """Rewrites the docstrings of a package once it has been read."""

    def on_package(self, *, pkg: griffe.Module, **_: object) -> None:
        """Go through all that the package defines."""
        for found in _defined(pkg):
            if isinstance(found, griffe.Function):
                if not found.is_init_method:
                    _tabulate(found, "Args", _arguments(found.parameters))
            elif found.is_class and "__init__" in found.members:
                _tabulate(found, "Args", _arguments(found.parameters))
            elif isinstance(found, griffe.Class):
                _show_fields(found)


def _defined(module: griffe.Object) -> Iterator[griffe.Function | griffe.Class]:
    for member in module.members.values():
        if isinstance(member, griffe.Function | griffe.Class):
            yield member
        if isinstance(member, griffe.Module | griffe.Class):
            yield from _defined(member)


def _arguments(parameters: griffe.Parameters) -> list[str]:
    stars = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}
    return [
        stars.get(parameter.kind, "") + parameter.name
        for parameter in parameters
        if parameter.name not in ("self", "cls") and not parameter.name.startswith("_")
    ]


def _show_fields(found: griffe.Class) -> None:
    """Fields of a Struct or dataclass become rows; the words of an enum become a list."""
    fields = {
        name: member
        for name, member in found.members.items()
        if isinstance(member, griffe.Attribute)
        and "property" not in member.labels
        and not name.startswith("_")
    }
    words = [f"``{name}``" for name, field in fields.items() if field.annotation is None]
    if words and len(words) == len(fields) and found.docstring:
        found.docstring.value += f"\n\nKnown: {', '.join(words)}."
    else:
        _tabulate(found, "Attributes", list(fields), fields)
    for field in fields.values():
        field.docstring = None  # so it is not shown again below the table


def _tabulate(
    found: griffe.Function | griffe.Class,
    section: str,
    names: list[str],
    fields: dict[str, griffe.Attribute] | None = None,
) -> None:
    if not names or found.docstring is None:
        return
    said, text = _taken_out(found.docstring.value, set(names))
    if fields is None and len(names) == 1 and not said:
        return  # the signature and the text say it all
    for name, field in (fields or {}).items():
        if field.docstring:
            said[name] = " ".join(field.docstring.value.split())
    rows = [
        f"    {name}: {said.get(name) or _elsewhere(name, said, text)}".rstrip() for name in names
    ]
    found.docstring.value = "\n".join([text, "", f"{section}:", *rows])


def _elsewhere(name: str, said: dict[str, str], text: str) -> str:
    """Where a name is spoken of, if not in a row of its own."""
    if name in _NAME.findall(text):
        return "see above"
    found = [other for other, words in said.items() if name in _NAME.findall(words)]
    return f"see ``{found[0]}``" if found else ""


def _taken_out(text: str, names: set[str]) -> tuple[dict[str, str], str]:
    """What is said of each name alone, and the text without it."""
    said: dict[str, str] = {}
    kept: list[str] = []
    for paragraph in text.split("\n\n"):
        is_list = paragraph.startswith("- ")
        items = re.split(r"\n(?=- )", paragraph) if is_list else [paragraph]
        left = [rest for item in items if (rest := _take(item, names, said, is_list=is_list))]
        if left:
            kept.append("\n".join(left))
        elif kept and kept[-1].endswith(":"):
            kept.pop()  # it announced the list that is gone
    return said, "\n\n".join(kept)


def _take(text: str, names: set[str], said: dict[str, str], *, is_list: bool) -> str:
    """Take the sentences that speak of one name out of a paragraph or a list item; gives the rest."""
    rest: list[str] = []
    subjects: list[str] = []
    for sentence in _SENTENCE.split(text):
        whole, parts = [sentence], _CLAUSE.split(sentence)
        for clauses in [whole] if is_list else [whole, parts]:
            read = [_read(clause, names, alone=not is_list) for clause in clauses]
            if all(found for found, _ in read):
                break
        else:
            read = [(subjects, sentence)] if is_list else [([], sentence)]
        for subjects, words in read:
            for name in subjects:
                said[name] = " ".join(filter(None, [said.get(name), *words.split()]))
            if not subjects:
                rest.append(words)
    return " ".join(rest)


def _read(clause: str, names: set[str], *, alone: bool) -> tuple[list[str], str]:
    """The names that a clause begins with and what it says of them; no names if it is not so."""
    led = _LED.match(clause)
    found = _NAME.findall(led[1]) if led else []
    if led is None or not names.issuperset(found):
        return [], clause
    if alone and not led[2] and (names - set(found)) & set(_NAME.findall(led[3])):
        return [], clause
    return found, re.sub(r"\Ais ", "", led[3])
