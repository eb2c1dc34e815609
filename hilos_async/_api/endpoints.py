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
from hilos_async._api.objects import FlowExecution, decoder_of
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
    ``operation`` the method of a session that asks, ``kind`` what a reply is read as. ``parts`` makes a
    reader for one session, which keeps the equal parts of replies once. Where one object is asked for
    by its id, ``id_of`` tells the id that a reply holds, and ``with_id`` adds a missing one.
    ``native_names``: parameters that the native deployment calls otherwise.
    """

    name: str
    noun: str
    operation: str
    kind: type[T]
    parts: Callable[[], Callable[[bytes], T]] | None = None
    id_of: Callable[[T], UUID | None] = _no_id
    with_id: Callable[[T, UUID], T] = _as_it_is
    suffix: str = ""  # of the path, after the id
    native_names: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def decoder(self) -> msgspec.json.Decoder[T]:
        """Reads a reply by itself, and says what does not fit; made when it is first wanted."""
        return decoder_of(self.kind)  # type: ignore[arg-type]  # types are hashable

    def reader(self) -> Callable[[bytes], T]:
        """A reader of replies for one session."""
        return self.decoder.decode if self.parts is None else self.parts()

    def path(self, id: UUID) -> str:
        """Where one object is; no slash at the end, with which the native host answers 404."""
        return f"{self.name}/{id}{self.suffix}"


EXECUTION: Final = Endpoint(
    "flow-execution",
    "execution",
    "get_execution",
    FlowExecution,
    parts=execution_reader,
    id_of=attrgetter("id"),
    with_id=_with_id,
)
EXECUTION_CONTACT: Final = Endpoint(
    "flow-execution-contact",
    "contact of an execution",
    "get_execution_contact",
    ExecutionContact,
    id_of=attrgetter("id"),
    with_id=_with_id,
)
EXECUTIONS: Final = Endpoint(
    EXECUTION.name, "page", "list_executions", PageDocument[ExecutionBrief]
)
EXECUTION_CONTACTS: Final = Endpoint(
    EXECUTION_CONTACT.name,
    "page",
    "list_execution_contacts",
    PageDocument[ExecutionContact],
    native_names={
        "flow": "flow_execution__flow",
        "flow_version": "flow_execution__flow_version",
    },
)
RUN: Final = Endpoint("flow", "flow", "run_flow", ExecutionBrief, suffix="/run")


def query(
    endpoint: Endpoint[T], parameters: Mapping[str, object], *, is_native: bool
) -> dict[str, str]:
    """The parameters as the deployment calls and writes them."""
    names: Mapping[str, str] = endpoint.native_names if is_native else {}
    return {
        names.get(name, name): str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in parameters.items()
    }
