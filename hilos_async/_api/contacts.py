"""The people of a campaign: how it went with each of them.

Both deployments in one set; what they name differently has one name here. No ``repr`` shows who the
people are or what they wrote. Who is to be in a new campaign is said in ``runs``.
"""

from __future__ import annotations

from typing import Self
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from hilos_async._api.model import Model
from hilos_async._api.objects import (
    JSON,
    NO_ID,
    DateTime,
    FlowExecution,
    Id,
    User,
    decode,
    decoder_of,
)
from hilos_async._api.words import FlowExecutionContactStatus, MessageStatus, StepStatus


class Contact(Model, frozen=True, kw_only=True):
    """A person, as the list of a campaign's contacts shows them; ``id`` is text in the API.

    ``meta`` holds what the account knows of them, and what they answered where a flow saves answers.
    """

    id: str
    phone: str
    source: str
    last_updated_on: DateTime | None
    canonical_phone: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None
    meta: JSON = None
    external_url: str | None = None
    is_deleted: bool | None = None
    created_on: DateTime | None = None

    def __repr__(self) -> str:
        return f"<Contact {self.id}>"


class ContactTag(Model, frozen=True, kw_only=True, gc=False):
    """A word that contacts are sorted by."""

    name: str
    id: int | None = None


class ContactNote(Model, frozen=True, kw_only=True, gc=False):
    """What somebody of the account noted about a contact."""

    id: int | None
    notes: str
    contact: UUID | None
    created_on: DateTime | None
    created_by: User | None = None

    def __repr__(self) -> str:
        return f"<ContactNote {self.id}>"


class RunContact(Model, frozen=True, kw_only=True):
    """A contact as the reply to ``run_flow`` repeats it."""

    id: UUID | None = None
    phone: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None
    meta: JSON = None
    external_url: str | None = None
    is_deleted: bool | None = None
    source: str | None = None
    notes: tuple[ContactNote, ...] = ()
    created_on: DateTime | None = None
    tags: tuple[ContactTag, ...] = ()
    external_id: str | None = None
    native_id: str | None = None
    default_assignees: tuple[int, ...] = ()
    contact_import: UUID | None = None
    default_channel: int | None = None
    wa_id: str | None = None
    overwrite_tags: bool | None = None
    overwrite_default_assignees: bool | None = None
    overwrite_meta: bool | None = None

    def __repr__(self) -> str:
        return f"<RunContact {self.id}>"


class Message(Model, frozen=True, kw_only=True):
    """A WhatsApp message between a flow and a contact (native deployment only)."""

    id: str
    direction: str | None = None
    status: MessageStatus | None = None
    msg_type: str | None = None
    source: str | None = None
    body: str | None = None
    content: JSON = None
    content_type: str | None = None
    content_url: str | None = None
    location: JSON = None
    contacts: JSON = None
    whatsapp_template: JSON = None
    context_message: str | None = None
    to_number: str | None = None
    from_number: str | None = None
    contact: str | None = None
    sent_by: User | None = None
    timestamp: DateTime | None = None
    queued_on: DateTime | None = None
    accepted_on: DateTime | None = None
    sent_on: DateTime | None = None
    delivered_on: DateTime | None = None
    read_on: DateTime | None = None
    failed_on: DateTime | None = None
    failed_attempts: int | None = None
    provider_id: str | None = None
    provider_error_code: str | None = None
    provider_error_message: str | None = None
    is_deleted: bool | None = None

    def __repr__(self) -> str:
        return f"<Message {self.id} {self.direction} {self.status}>"


class StepMessage(Model, frozen=True, kw_only=True):
    """A message that belongs to a step."""

    message: Message


class ExecutionStep(Model, frozen=True, kw_only=True):
    """What one step of the flow did with a contact (native deployment only).

    ``step`` is the step as the flow's editor keeps it, some sixty fields, just as the API sent it.
    """

    step: JSON
    messages: tuple[StepMessage, ...]
    id: UUID | None = None
    status: StepStatus | None = None
    created_on: DateTime | None = None
    expire_on: DateTime | None = None
    has_error: bool | None = None
    last_error_detail: str | None = None
    validation_failed_attempts: int | None = None
    execution_result: JSON = None
    request_data: JSON = None

    def __repr__(self) -> str:
        return f"<ExecutionStep {self.id} {self.status}>"


class ExecutionContact(Model, frozen=True, kw_only=True):
    """How one contact fared in one execution.

    ``status_reason`` says why, where the API knows it. A row of a list has ``flow_name``, and from
    ActiveCampaign ``flow`` and ``flow_version``; only one that was asked for by its id (native
    deployment) has ``flow_execution`` and ``execution_steps``. ``id`` is ``None`` only in a document
    that has none: whatever a list or a lookup gave has one.
    """

    contact: Contact
    id: Id = NO_ID
    status: FlowExecutionContactStatus | None = None
    status_reason: str | None = None
    created_on: DateTime | None = None
    flow_name: str | None = None
    flow: UUID | None = None
    flow_version: UUID | None = None
    is_test: bool | None = None
    is_chatbot_execution: bool | None = None
    flow_execution: FlowExecution | None = None
    execution_steps: tuple[ExecutionStep, ...] = ()
    # The native deployment's name for status_reason; never set after reading, and never written.
    _reason: str | UnsetType | None = msgspec.field(name="reason", default=UNSET)

    def __post_init__(self) -> None:
        if self._reason is not UNSET:
            if self.status_reason is None:
                msgspec.structs.force_setattr(self, "status_reason", self._reason)
            msgspec.structs.force_setattr(self, "_reason", UNSET)

    def __repr__(self) -> str:
        return f"<ExecutionContact {self.id} {self.status}>"

    @property
    def is_terminal(self) -> bool:
        """Whether it is over for this contact: completed, canceled, expired or failed."""
        return self.status is not None and self.status.is_terminal

    @classmethod
    def from_json(cls, document: bytes | str) -> Self:
        """Read one from the API's JSON, a list's row or a whole one.

        Raises ``DecodeError`` with the JSON ``path`` of the first thing that does not fit.
        """
        found: Self = decode(document, decoder_of(cls))
        return found

    def to_dict(self) -> dict[str, JSON]:
        """Plain values that ``json.dumps`` takes: text for ids, dates and enums."""
        plain: dict[str, JSON] = msgspec.to_builtins(self)
        return plain
