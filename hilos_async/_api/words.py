"""The API's words as open enums: a word the contracts do not know is kept, never refused.

Knows the words of both deployments. Refuses to know which object a word stands in.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema


class OpenEnum(StrEnum):
    """A set of words that the API will add to: an unknown word becomes a member of its own.

    Such a member prints and compares as the word itself, survives pickle and copy, and says
    ``is_known`` is ``False``; it is not listed when the enum is iterated.
    """

    @classmethod
    def _missing_(cls, value: object) -> OpenEnum | None:
        return _unknown_member(cls, value) if isinstance(value, str) else None

    @property
    def is_known(self) -> bool:
        """Whether the word is one of the contract's."""
        return self._value_ in type(self)._value2member_map_

    def __repr__(self) -> str:
        if self.is_known:
            return f"<{type(self).__name__}.{self.name}>"
        return f"<{type(self).__name__} unknown: {str(self)!r}>"

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        # Any text: with "enum" in it, generated clients would refuse the words that the API adds.
        words = [word.value for word in cls]
        known = f"Known words: {', '.join(words)}. There may be others."
        return handler(schema) | {"description": known, "examples": words}


@lru_cache(maxsize=256)  # bounded: a server that lies must not be able to fill the memory
def _unknown_member(cls: type[OpenEnum], word: str) -> OpenEnum:
    member = str.__new__(cls, word)
    member._name_ = member._value_ = word
    return member


class FlowExecutionStatus(OpenEnum):
    """Where a campaign stands; ``PAUSED`` is a word of the native deployment only."""

    PROCESSING = "PROCESSING"
    READY = "READY"
    AWAITING_CONFIRMATION = "AWAITING_CONFIRMATION"
    CONFIRMED = "CONFIRMED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"

    @property
    def is_terminal(self) -> bool:
        """Whether a campaign in this state is over; an unknown word counts as not over."""
        return self in _TERMINAL


_TERMINAL = frozenset({FlowExecutionStatus.COMPLETED, FlowExecutionStatus.CANCELED})


class FlowExecutionContactStatus(OpenEnum):
    """How far a campaign has got with one contact; ``PAUSED`` is the native deployment's only."""

    READY = "READY"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"

    @property
    def is_terminal(self) -> bool:
        """Whether it is over for the contact: completed, canceled, expired or failed."""
        return self in _OVER_FOR_A_CONTACT


_OVER_FOR_A_CONTACT = (
    FlowExecutionContactStatus.COMPLETED,
    FlowExecutionContactStatus.CANCELED,
    FlowExecutionContactStatus.EXPIRED,
    FlowExecutionContactStatus.FAILED,
)


class StepStatus(OpenEnum):
    """How far one step of a flow has got with a contact (native deployment only)."""

    WAITING_TO_START = "WAITING_TO_START"
    NOT_EXECUTED = "NOT_EXECUTED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"


class MessageStatus(OpenEnum):
    """How far a message has got (native deployment only)."""

    NEW = "new"
    RETRY = "retry"
    ACCEPTED = "accepted"
    SENDING = "sending"
    SENT = "sent"
    RECEIVING = "receiving"
    RECEIVED = "received"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    FAILED = "failed"
    READ = "read"
    DELETED = "deleted"


class ExecutionSource(OpenEnum):
    """What an execution was ordered from."""

    HUBSPOT = "HUBSPOT"
    API = "API"
    FRONTEND = "FRONTEND"


class ExecuteFor(OpenEnum):
    """How the contacts of a campaign were chosen."""

    FILTERS = "FILTERS"
    LIST = "LIST"
    ALL = "ALL"


class ExecutionType(OpenEnum):
    """What starts an execution (native deployment only)."""

    INBOUND = "INBOUND"
    OUTBOUND = "OUTBOUND"
    API = "API"
    FROM_FLOW = "FROM_FLOW"


class InboundTrigger(OpenEnum):
    """The kind of message that starts an inbound execution (native deployment only)."""

    ANY_MESSAGE = "ANY_MESSAGE"
    TEXT = "TEXT"
    IMAGE = "IMAGE"
    FILE = "FILE"


class FlowStatus(OpenEnum):
    """Whether a flow can be run."""

    DRAFT = "DRAFT"
    PUBLISHED = "PUBLISHED"


class TriggerType(OpenEnum):
    """What may start a flow (ActiveCampaign deployment only)."""

    INBOUND_ANY_MESSAGE = "INBOUND_ANY_MESSAGE"
    INBOUND_SPECIFIC_MESSAGE = "INBOUND_SPECIFIC_MESSAGE"
    OUTBOUND_CAMPAIGN_API = "OUTBOUND_CAMPAIGN_API"
    OUTBOUND_CAMPAIGN_CSV = "OUTBOUND_CAMPAIGN_CSV"
    OUTBOUND_CAMPAIGN_SEGMENT = "OUTBOUND_CAMPAIGN_SEGMENT"
    OUTBOUND_ANY = "OUTBOUND_ANY"
    META_C2WA = "META_C2WA"
    INTEGRATIONS_HUBSPOT = "INTEGRATIONS_HUBSPOT"
    INTEGRATIONS_ZAPIER = "INTEGRATIONS_ZAPIER"
    FROM_FLOW = "FROM_FLOW"
    CSAT = "CSAT"
    OTHER = "OTHER"


class ChannelType(OpenEnum):
    """The messaging service behind a channel."""

    WHATSAPP = "WHATSAPP"
    EMAIL = "EMAIL"
    INSTAGRAM = "INSTAGRAM"
    FB_MESSENGER = "FB_MESSENGER"
    TELEGRAM = "TELEGRAM"
    SMS = "SMS"
    VOICE = "VOICE"


class ChannelStatus(OpenEnum):
    """Whether a channel can send."""

    NEW = "NEW"
    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"


class ChannelProvider(OpenEnum):
    """Who connects a WhatsApp channel."""

    META_CLOUD_API = "META_CLOUD_API"
    TECH_PROVIDER_CLOUD_API = "TECH_PROVIDER_CLOUD_API"
    D360_CLOUD_API = "D360_CLOUD_API"
    D360_DIALOG = "360DIALOG"


class Comparison(OpenEnum):
    """How a contact filter compares a field with its value; ``NOT_`` is the API's ``!``."""

    EXACT = "exact"
    NOT_EXACT = "!exact"
    GTE = "gte"
    GT = "gt"
    LTE = "lte"
    LT = "lt"
    ISNULL = "isnull"
    NOT_ISNULL = "!isnull"
    ICONTAINS = "icontains"
    NOT_ICONTAINS = "!icontains"


class UserRole(OpenEnum):
    """A user's role where the API names it (native); ActiveCampaign sends a number instead."""

    AGENT = "AGENT"
    MANAGER = "MANAGER"
    ADMIN = "ADMIN"
    FINANCE = "FINANCE"
