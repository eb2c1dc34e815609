"""The one table of endpoints: what each is called and how its reply is read.

No other module holds a path of the API.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import msgspec

from hilos_async._api.contacts import ExecutionContact
from hilos_async._api.lists import ExecutionBrief, PageDocument
from hilos_async._api.objects import FlowExecution
from hilos_async._api.parts import execution_reader

if TYPE_CHECKING:
    from uuid import UUID

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)


def _with_id(found: S, id: UUID) -> S:
    return msgspec.structs.replace(found, id=id)


def _no_id(_: object) -> None:
    return None


def _as_it_is(found: T, _: UUID) -> T:
    return found


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[T]):
    """One kind of question that the API answers.

    ``name`` is its path below the base URL, ``noun`` what an error calls what was asked for,
    ``operation`` the method of a session that asks. ``reader`` makes a reader of replies for one
    session; ``decoder`` reads a reply that does not fit once more, to say what does not. Where one
    object is asked for by its id, ``id_of`` tells the id that a reply holds, and ``with_id`` adds a
    missing one. ``native_names``: parameters that the native deployment calls otherwise.
    """

    name: str
    noun: str
    operation: str
    reader: Callable[[], Callable[[bytes], T]]
    decoder: msgspec.json.Decoder[T]
    id_of: Callable[[T], UUID | None] = _no_id
    with_id: Callable[[T, UUID], T] = _as_it_is
    suffix: str = ""  # of the path, after the id
    native_names: Mapping[str, str] = field(default_factory=dict[str, str])

    def path(self, id: UUID) -> str:
        """Where one object is; no slash at the end, with which the native host answers 404."""
        return f"{self.name}/{id}{self.suffix}"


EXECUTION: Final[Endpoint[FlowExecution]] = Endpoint(
    "flow-execution",
    "execution",
    "get_execution",
    reader=execution_reader,
    decoder=msgspec.json.Decoder(FlowExecution),
    id_of=attrgetter("id"),
    with_id=_with_id,
)
_CONTACT: Final = msgspec.json.Decoder(ExecutionContact)
EXECUTION_CONTACT: Final[Endpoint[ExecutionContact]] = Endpoint(
    "flow-execution-contact",
    "contact of an execution",
    "get_execution_contact",
    reader=lambda: _CONTACT.decode,
    decoder=_CONTACT,
    id_of=attrgetter("id"),
    with_id=_with_id,
)
_BRIEFS: Final = msgspec.json.Decoder(PageDocument[ExecutionBrief])
EXECUTIONS: Final[Endpoint[PageDocument[ExecutionBrief]]] = Endpoint(
    EXECUTION.name, "page", "list_executions", reader=lambda: _BRIEFS.decode, decoder=_BRIEFS
)
_CONTACTS: Final = msgspec.json.Decoder(PageDocument[ExecutionContact])
EXECUTION_CONTACTS: Final[Endpoint[PageDocument[ExecutionContact]]] = Endpoint(
    EXECUTION_CONTACT.name,
    "page",
    "list_execution_contacts",
    reader=lambda: _CONTACTS.decode,
    decoder=_CONTACTS,
    native_names={
        "flow": "flow_execution__flow",
        "flow_version": "flow_execution__flow_version",
    },
)
_BRIEF: Final = msgspec.json.Decoder(ExecutionBrief)
RUN: Final[Endpoint[ExecutionBrief]] = Endpoint(
    "flow", "flow", "run_flow", reader=lambda: _BRIEF.decode, decoder=_BRIEF, suffix="/run"
)


def query(
    endpoint: Endpoint[T], parameters: Mapping[str, object], *, is_native: bool
) -> dict[str, str]:
    """Those parameters that were given, as the deployment calls and writes them."""
    names = endpoint.native_names if is_native else {}
    return {
        names.get(name, name): str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in parameters.items()
        if value is not None
    }
