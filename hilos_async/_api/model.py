"""Model: a Struct that is written as JSON, and that pydantic takes for one of its own models.

How pydantic reads and describes one stands in ``pydantic.py``, which is imported when pydantic asks.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema, SchemaSerializer


class _AsItIs(str):
    __slots__ = ()
    __repr__ = str.__str__


class Model(msgspec.Struct, frozen=True):
    """A Struct that pydantic and FastAPI take for one of their own models.

    As a return type it is answered as ``to_json`` writes it, as a body it is read as the API's own
    document would be, and both are described in full.
    """

    def to_json(self) -> bytes:
        """Write it as JSON; an error in it as a problem (RFC 9457) that says no more than a status."""
        return to_json(self)

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """What rich shows, in its tracebacks too: no more than ``repr`` does."""
        if type(self).__repr__ is Model.__repr__:
            return list(msgspec.structs.asdict(self).items())
        return [("", _AsItIs(repr(self)))]

    @property
    def __pydantic_serializer__(self) -> SchemaSerializer:
        """What pydantic looks for on a value of which no annotation told: in a field of type ``Any``."""
        from hilos_async._api import pydantic

        return pydantic.serializer_of(type(self))

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        from hilos_async._api import pydantic

        return pydantic.core_schema_of(cls, source, handler)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        from hilos_async._api import pydantic

        return pydantic.json_schema_of(cls, schema, handler)


@functools.singledispatch
def as_plain(value: object) -> object:
    """What stands in JSON for a value that msgspec cannot write; ``problem.py`` adds errors."""
    raise NotImplementedError(f"{type(value).__name__} has no JSON here")


to_json = msgspec.json.Encoder(enc_hook=as_plain).encode

# JSON may hold them as they are, but Python's str.splitlines, and so many a client, ends a line there.
_SEPARATORS: Final = [
    (character.encode(), f"\\u{ord(character):04x}".encode()) for character in "\x85\u2028\u2029"
]


def to_line(value: object) -> bytes:
    """Write it as JSON and a newline, the only one that any reader can find in it."""
    line = to_json(value)
    for separator, escaped in _SEPARATORS:
        line = line.replace(separator, escaped)
    return line + b"\n"
