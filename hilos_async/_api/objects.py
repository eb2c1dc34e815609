"""The API's objects as frozen Structs, both deployments in one set.

Knows which field is required (only what both contracts require), what may be null all the same, and how
the API writes durations. No ``repr`` shows who somebody is: people log objects. Refuses to know how a
document got here: no HTTP, no session.
"""

from __future__ import annotations

import re
import warnings
from datetime import datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Self, TypeVar
from uuid import UUID

import msgspec

from hilos_async._api.model import Model
from hilos_async._api.words import (
    ChannelProvider,
    ChannelStatus,
    ChannelType,
    Comparison,
    ExecuteFor,
    ExecutionType,
    FlowExecutionStatus,
    FlowStatus,
    InboundTrigger,
    TriggerType,
    UserRole,
)
from hilos_async.errors import DecodeError

if TYPE_CHECKING:
    JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]
    Count = int
    Id = UUID
    NO_ID: UUID
else:
    JSON = object  # msgspec has no recursive aliases; object decodes to the same plain values
    Count = int | None  # read-only numbers may come as null; __post_init__ turns that into 0
    # No contract promises a row's id; whatever a list or a run gave has one, or is an error.
    Id = UUID | None
    NO_ID = None

DateTime = Annotated[datetime, msgspec.Meta(tz=True)]
T = TypeVar("T")

# What msgspec raises for a document; bad UTF-8 and too deep nesting it leaves to Python's own errors.
UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)
_SNIPPET_BYTES = 120  # of a document that does not fit, for ``DecodeError.body``
_PATH = re.compile(r" - at `(\$.*)`$")
# DRF's DurationField notation: [DD] [HH:[MM:]]ss[.uuuuuu]
_DURATION = re.compile(
    r"(?:(?P<days>-?\d{1,9}) )?(?:(?:(?P<hours>\d{1,9}):)?(?P<minutes>\d{1,9}):)?"
    r"(?P<seconds>\d{1,9})(?:\.(?P<micro>\d{1,6}))?",
    re.ASCII,
)


class User(Model, frozen=True, kw_only=True, gc=False):
    """A person of the account, as the API shows them inside other objects."""

    id: int | None
    email: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    profile_image: str | None = None
    role: int | UserRole | None = None

    def __repr__(self) -> str:
        return f"<User {self.id}>"


class Channel(Model, frozen=True, kw_only=True, gc=False):
    """The number or account that a flow talks through."""

    id: int | None
    channel_id: str
    name: str | None = None
    channel_type: ChannelType | None = None
    status: ChannelStatus | None = None
    channel_provider: ChannelProvider | None = None
    is_sandbox: bool | None = None
    created_on: DateTime | None = None

    def __repr__(self) -> str:
        return f"<Channel {self.id}>"  # its other names may be a phone number


class ContactFilter(Model, frozen=True, kw_only=True, gc=False):
    """One condition that chose a campaign's contacts."""

    field: str
    comparison: Comparison
    value: str
    id: UUID | None = None

    def __repr__(self) -> str:
        return f"<ContactFilter {self.field!r} {self.comparison}>"


class Flow(Model, frozen=True, kw_only=True, gc=False):
    """A conversation script; its ``id`` is text in the API, not always a UUID.

    Executions of a campaign share it. So ``trigger_config``, which Python would let you change, is to be
    read only.
    """

    id: str
    name: str
    channel: Channel | None
    created_by: User | None
    created_on: DateTime | None = None
    status: FlowStatus | None = None
    is_active: bool | None = None
    is_legacy: bool | None = None
    flow_execution_variables: tuple[str, ...] | None = None
    trigger_type: TriggerType | None = None
    trigger_config: JSON = None

    def __repr__(self) -> str:
        return f"<Flow {self.id!r} {self.name!r}>"


class FlowVersion(Model, frozen=True, kw_only=True, gc=False):
    """A published state of a flow, with the totals of all its executions.

    Counters count contacts; one that the API leaves out, or sends as null, is 0.
    """

    flow: Flow
    is_current_version: bool
    last_updated_on: DateTime | None
    published_by: User | None
    id: UUID | None = None
    version_name: str | None = None
    version_description: str | None = None
    created_on: DateTime | None = None
    num_contacts: Count = 0
    completed: Count = 0
    running: Count = 0
    failed: Count = 0
    expired: Count = 0
    canceled: Count = 0
    avg_completion_time: str | None = None
    execution_type: ExecutionType | None = None

    def __post_init__(self) -> None:
        nulls_to_zero(self)

    def __repr__(self) -> str:
        return f"<FlowVersion {self.id} of {self.flow.name!r}: {_told(self)}>"

    @property
    def average_completion(self) -> timedelta | None:
        """``avg_completion_time`` as a duration; ``None`` if it is not in the API's notation."""
        return duration(self.avg_completion_time)


class FlowExecution(Model, frozen=True, kw_only=True, gc=False):
    """One run of a flow for many contacts: a campaign.

    Counters count contacts; one that the API leaves out, or sends as null, is 0. Date-times are
    aware, in the offset the API sent. ``id`` is ``None`` only in a document that has none; an
    execution that a lookup returned always has the id that was asked for.
    """

    status: FlowExecutionStatus
    execute_for: ExecuteFor
    flow: Flow
    flow_version: FlowVersion
    created_by: User | None
    # The native deployment may send any text here; ActiveCampaign promises a date-time.
    last_run_text: str | None = msgspec.field(name="last_run_on")
    id: UUID | None = None
    has_priority: bool | None = None
    flow_execution_variables: JSON = None
    start_on: DateTime | None = None
    created_on: DateTime | None = None
    num_contacts: Count = 0
    completed: Count = 0
    running: Count = 0
    failed: Count = 0
    expired: Count = 0
    canceled: Count = 0
    avg_completion_time: str | None = None
    status_reason: str | None = None
    status_triggered_by: User | None = None
    status_last_change_on: DateTime | None = None
    contact_filters: tuple[ContactFilter, ...] = ()
    contact_import: UUID | None = None
    execution_type: ExecutionType | None = None
    inbound_trigger_with: InboundTrigger | None = None
    inbound_start_message: str | None = None
    inbound_start_message_match_exact: bool | None = None

    def __post_init__(self) -> None:
        nulls_to_zero(self)

    def __repr__(self) -> str:
        return f"<FlowExecution {self.id} {self.flow.name!r} {self.status}: {_told(self)}>"

    @property
    def is_terminal(self) -> bool:
        """Whether the campaign is over: ``COMPLETED`` or ``CANCELED``."""
        return self.status.is_terminal

    @property
    def average_completion(self) -> timedelta | None:
        """``avg_completion_time`` as a duration; ``None`` if it is not in the API's notation."""
        return duration(self.avg_completion_time)

    @property
    def completion_rate(self) -> float | None:
        """The share of contacts that completed, 0 to 1; ``None`` for a campaign without contacts."""
        return self.completed / self.num_contacts if self.num_contacts else None

    @property
    def last_run_on(self) -> datetime | None:
        """When the campaign ran last, as an aware date-time.

        ``None`` for one that has not run, and where the API's text, ``last_run_text``, is no date-time.
        """
        try:
            return msgspec.convert(self.last_run_text, DateTime | None, strict=False)
        except msgspec.ValidationError:
            return None

    @property
    def last_run(self) -> datetime | None:
        """Deprecated: the former name of ``last_run_on``."""
        warnings.warn(
            "FlowExecution.last_run is deprecated: last_run_on is the date-time now",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.last_run_on

    @classmethod
    def from_json(cls, document: bytes | str) -> Self:
        """Read one execution from the API's JSON.

        Fields the contracts do not know are ignored. Raises ``DecodeError`` with the JSON ``path``
        of the first thing that does not fit.
        """
        execution: Self = decode(document, decoder_of(cls))
        return execution

    def to_json(self) -> bytes:
        """Write the execution as JSON that ``from_json`` reads back as an equal one."""
        return msgspec.json.encode(self)

    def to_dict(self) -> dict[str, JSON]:
        """The execution as plain values that ``json.dumps`` takes: text for ids, dates and enums."""
        plain: dict[str, JSON] = msgspec.to_builtins(self)
        return plain


def decode(document: bytes | str, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode JSON, and say in a ``DecodeError`` what did not fit and where."""
    try:
        return decoder.decode(document)
    except UNREADABLE as error:
        reason = str(error)
        found = _PATH.search(reason)
        raw = (
            document
            if isinstance(document, bytes)
            else document[:_SNIPPET_BYTES].encode(errors="replace")
        )
        body = raw[:_SNIPPET_BYTES]
        raise DecodeError(
            f"not a document this version knows: {reason}",
            path=found.group(1) if found else "$",
            body=body,
        ) from error


@lru_cache(maxsize=32)
def decoder_of(cls: type[T]) -> msgspec.json.Decoder[T]:
    """The decoder of a Struct, made once."""
    return msgspec.json.Decoder(cls)


_COUNTS = ("num_contacts", "completed", "running", "failed", "expired", "canceled")
_counts = attrgetter(*_COUNTS)


def _told(counted: FlowExecution | FlowVersion) -> str:
    """The contacts, and how many of them there are of each kind, in words."""
    kinds = [f"{count:,} {name}" for name in _COUNTS[1:] if (count := getattr(counted, name))]
    contacts = "1 contact" if counted.num_contacts == 1 else f"{counted.num_contacts:,} contacts"
    return ", ".join([contacts, *kinds])


def nulls_to_zero(counted: Model) -> None:
    """Turn the counters that came as null into 0, in a Struct that has them all."""
    if None in _counts(counted):
        for name in _COUNTS:
            if getattr(counted, name) is None:
                msgspec.structs.force_setattr(counted, name, 0)


def duration(text: str | None) -> timedelta | None:
    """What a text in the API's notation of durations says; ``None`` for any other."""
    found = _DURATION.fullmatch(text) if text else None
    if found is None:
        return None
    try:
        return timedelta(
            days=int(found["days"] or 0),
            hours=int(found["hours"] or 0),
            minutes=int(found["minutes"] or 0),
            seconds=int(found["seconds"]),
            microseconds=int((found["micro"] or "").ljust(6, "0")),
        )
    except OverflowError:
        return None
