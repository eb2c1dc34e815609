"""Reads executions so that their equal parts are one object: flows, versions, channels, people.

Knows which fields hold such parts, and remembers parts by their bytes: of a campaign's executions,
two thirds of each reply have been read before. Refuses to know what is wrong with a document that
does not fit: whoever must say so reads it again, as a whole.
"""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar

import msgspec

from hilos_async._api.objects import Channel, Flow, FlowExecution, FlowVersion, User

T = TypeVar("T", bound=msgspec.Struct)

_KEPT: Final = 512  # parts of a kind
_LONGEST: Final = 16_384  # bytes of one that is kept: a usual one has 200 to 2,000


class _Part(Generic[T]):
    """Reads one kind of Struct; the fields named in ``parts`` are read by others of these.

    Nothing but equal bytes gives the same object, so a counter that has changed is never missed.
    """

    def __init__(self, kind: type[T], **parts: _Part[Any]) -> None:
        self._make = kind
        self._parts = tuple(parts.items())
        # A person or a channel may be null; a flow or a version may not.
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
            _unread(kind, parts) if parts else kind | None
        )
        self._known: dict[bytes, T] = {}

    def read(self, document: bytes) -> T:
        """Read one. Raises one of ``models.UNREADABLE``."""
        found: T = self._decoder.decode(document)
        if not self._parts:
            return found
        fields = msgspec.structs.asdict(found)
        for name, part in self._parts:
            fields[name] = part.recall(fields[name])
        return self._make(**fields)

    def recall(self, raw: msgspec.Raw) -> T:
        """The part that has been read from these bytes before, or now."""
        document = bytes(raw)
        part = self._known.get(document)
        if part is None:
            part = self.read(document)
            if len(document) > _LONGEST:
                return part
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[document] = part
        return part


def _unread(kind: type[Any], parts: dict[str, _Part[Any]]) -> type[msgspec.Struct]:
    """The same Struct, with those parts left as the bytes they are."""
    fields: list[Any] = []
    for field in msgspec.structs.fields(kind):
        a_type = msgspec.Raw if field.name in parts else field.type
        default = msgspec.Raw(b"null") if field.name in parts else field.default
        fields.append((field.name, a_type) if field.required else (field.name, a_type, default))
    return msgspec.defstruct(f"Unread{kind.__name__}", fields, kw_only=True, gc=False)


_USER = _Part(User)
_FLOW = _Part(Flow, channel=_Part(Channel), created_by=_USER)
_VERSION = _Part(FlowVersion, flow=_FLOW, published_by=_USER)
_EXECUTION = _Part(
    FlowExecution, flow=_FLOW, flow_version=_VERSION, created_by=_USER, status_triggered_by=_USER
)

read_execution: Final = _EXECUTION.read
