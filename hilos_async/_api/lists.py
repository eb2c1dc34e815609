"""Lists as the API gives them: one page of one, and the row that stands for an execution.

A row is less than an execution: the flow is missing and people are numbers. The reply to a run is
the same kind of document.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Generic, Protocol, Self, TypeVar
from uuid import UUID

import msgspec

from hilos_async._api.contacts import RunContact
from hilos_async._api.model import Model
from hilos_async._api.objects import (
    JSON,
    NO_ID,
    ContactFilter,
    Count,
    DateTime,
    Id,
    User,
    decode,
    decoder_of,
    duration,
    nulls_to_zero,
)
from hilos_async._api.words import (
    ExecuteFor,
    ExecutionSource,
    ExecutionType,
    FlowExecutionStatus,
    InboundTrigger,
)


class Row(Protocol):
    """What a list is made of: things with an id."""

    @property
    def id(self) -> UUID:
        """The row's own id, which no other row of the list has."""
        ...


T = TypeVar("T")
R = TypeVar("R", bound=Row)


class Page(Model, Generic[T], frozen=True, kw_only=True):
    """One page of a list, numbered from 1.

    ``count`` is the length of the whole list when the page was read, ``has_next`` says whether
    another page follows.
    """

    number: int
    count: int
    has_next: bool
    results: tuple[T, ...]


class ExecutionBrief(Model, frozen=True, kw_only=True):
    """An execution as a list shows it and as ``run_flow`` returns it; ``get_execution`` has the rest.

    Counters count contacts; one that the API leaves out, or sends as null, is 0. ``flow_version`` is
    an id and ``status_triggered_by`` a user's number. Only the reply to a run has ``contact_list``.
    ``id`` is ``None`` only in a document that has none: whatever a list or a run gave has one.
    """

    execute_for: ExecuteFor
    id: Id = NO_ID
    status: FlowExecutionStatus | None = None
    created_on: DateTime | None = None
    created_by: User | None = None
    flow_version: UUID | None = None
    num_contacts: Count = 0
    completed: Count = 0
    running: Count = 0
    failed: Count = 0
    expired: Count = 0
    canceled: Count = 0
    avg_completion_time: str | None = None
    start_on: DateTime | None = None
    has_priority: bool | None = None
    flow_execution_variables: JSON = None
    status_reason: str | None = None
    status_triggered_by: int | None = None
    status_last_change_on: DateTime | None = None
    contact_filters: tuple[ContactFilter, ...] = ()
    contact_list: tuple[RunContact, ...] = ()
    source: ExecutionSource | None = None
    is_hidden: bool | None = None
    execution_type: ExecutionType | None = None
    inbound_trigger_with: InboundTrigger | None = None
    inbound_start_message: str | None = None
    inbound_start_message_match_exact: bool | None = None

    def __post_init__(self) -> None:
        nulls_to_zero(self)

    def __repr__(self) -> str:
        return f"<ExecutionBrief {self.id} {self.status}>"

    @property
    def is_terminal(self) -> bool:
        """Whether the campaign is over: ``COMPLETED`` or ``CANCELED``."""
        return self.status is not None and self.status.is_terminal

    @property
    def average_completion(self) -> timedelta | None:
        """``avg_completion_time`` as a duration; ``None`` if it is not in the API's notation."""
        return duration(self.avg_completion_time)

    @classmethod
    def from_json(cls, document: bytes | str) -> Self:
        """Read one from the API's JSON, a list's row or the reply to a run.

        Raises ``DecodeError`` with the JSON ``path`` of the first thing that does not fit.
        """
        found: Self = decode(document, decoder_of(cls))
        return found

    def to_dict(self) -> dict[str, JSON]:
        """Plain values that ``json.dumps`` takes: text for ids, dates and enums."""
        plain: dict[str, JSON] = msgspec.to_builtins(self)
        return plain


class PageDocument(msgspec.Struct, Generic[T]):
    """A page as the API writes it. A row without an id does not fit: a walk needs to tell them apart."""

    count: int = 0  # the native contract promises neither
    results: tuple[T, ...] = ()
    next: str | None = None

    def __post_init__(self) -> None:
        for place, row in enumerate(self.results):
            if getattr(row, "id", None) is None:
                raise ValueError(f"`results[{place}]` has no `id`")

    def page(self, number: int) -> Page[T]:
        """The page with that number.

        The address of the next one is read as yes or no: it may lead to another host.
        """
        return Page(number=number, count=self.count, has_next=bool(self.next), results=self.results)
