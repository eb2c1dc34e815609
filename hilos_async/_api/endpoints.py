"""The one table of endpoints: what each is called and how its reply is read.

No other module holds a path of the API.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import msgspec

from hilos_async._api.objects import FlowExecution
from hilos_async._api.parts import execution_reader

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)


def _with_id(found: S, id: UUID) -> S:
    return msgspec.structs.replace(found, id=id)


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[T]):
    """One kind of object that the API serves.

    ``name`` is its path below the base URL, ``noun`` what an error calls the object, ``operation`` the
    method of a session that asks for it. ``reader`` makes a reader of replies for one session;
    ``decoder`` reads a reply that does not fit once more, to say what does not. Where one object is
    asked for by its id, ``id_of`` tells the id that a reply holds, and ``with_id`` adds a missing one.
    """

    name: str
    noun: str
    operation: str
    reader: Callable[[], Callable[[bytes], T]]
    decoder: msgspec.json.Decoder[T]
    id_of: Callable[[T], UUID | None]
    with_id: Callable[[T, UUID], T]

    def path(self, id: UUID) -> str:
        """Where one object is; no slash at the end, with which the native host answers 404."""
        return f"{self.name}/{id}"


EXECUTION: Final[Endpoint[FlowExecution]] = Endpoint(
    "flow-execution",
    "execution",
    "get_execution",
    reader=execution_reader,
    decoder=msgspec.json.Decoder(FlowExecution),
    id_of=attrgetter("id"),
    with_id=_with_id,
)
