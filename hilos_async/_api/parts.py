"""Reading executions so that their equal parts are one object: flows, versions, channels, people.

Of a campaign's executions, two thirds of each reply have been read before. Parts are remembered by their
bytes, in a reader of which each session has one of its own: people's data goes with the session.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

from hilos_async._api.objects import Channel, Flow, FlowExecution, FlowVersion, User

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T", bound=msgspec.Struct)

_KEPT: Final = 512  # parts of a kind
_UNREAD: Final = object()
_LONGEST: Final = 16_384  # bytes of one that is kept: a usual one has 200 to 2,000


class Part(Generic[T]):
    """Reads one kind of Struct; the fields named in ``parts`` are read by others of these.

    Nothing but equal bytes gives the same object, so a counter that has changed is never missed.
    """

    def __init__(self, kind: type[T], **parts: Part[Any]) -> None:
        self._make = kind
        self._parts = tuple(parts.items())
        self._decode = _decoder(kind, tuple(parts)).decode
        self.known: dict[bytes, T] = {}

    def read(self, document: bytes) -> T:
        """Read one. Raises one of ``objects.UNREADABLE``."""
        found: T = self._decode(document)
        if not self._parts:
            return found
        fields = msgspec.structs.asdict(found)
        for name, part in self._parts:
            raw = bytes(fields[name])
            known = part.known.get(raw, _UNREAD)
            fields[name] = part.recall(raw) if known is _UNREAD else known
        return self._make(**fields)

    def recall(self, document: bytes) -> T:
        """The part that has been read from these bytes before, or now."""
        if document in self.known:
            return self.known[document]
        part = self.read(document)
        if len(document) <= _LONGEST:
            if len(self.known) >= _KEPT:
                self.known.clear()
            self.known[document] = part
        return part


@cache
def _decoder(kind: type[Any], parts: tuple[str, ...]) -> msgspec.json.Decoder[Any]:
    """A decoder of the kind that leaves those parts as the bytes they are; it keeps no document."""
    if not parts:
        return msgspec.json.Decoder(kind | None)  # a person or a channel may be null
    fields: list[Any] = []
    renamed: dict[str, str] = {}
    for field in msgspec.structs.fields(kind):
        a_type = msgspec.Raw if field.name in parts else field.type
        default = msgspec.Raw(b"null") if field.name in parts else field.default
        fields.append((field.name, a_type) if field.required else (field.name, a_type, default))
        renamed[field.name] = field.encode_name
    unread = msgspec.defstruct(
        f"Unread{kind.__name__}", fields, kw_only=True, gc=False, rename=renamed
    )
    return msgspec.json.Decoder(unread)


def execution_reader() -> Callable[[bytes], FlowExecution]:
    """A reader of executions with a memory of its own."""
    user = Part(User)
    flow = Part(Flow, channel=Part(Channel), created_by=user)
    version = Part(FlowVersion, flow=flow, published_by=user)
    return Part(
        FlowExecution, flow=flow, flow_version=version, created_by=user, status_triggered_by=user
    ).read
