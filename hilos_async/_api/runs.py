"""What starts a campaign: the contacts it is for, checked, and the request body made of them.

All is checked before anything is sent. A message names the field and never shows what it holds: that
is people's data.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final
from uuid import UUID

import msgspec
from msgspec import Meta

from hilos_async import _checks
from hilos_async._api.model import Model
from hilos_async._api.objects import JSON, DateTime

_Phone = Annotated[str, Meta(pattern=r"^\+[1-9][0-9]{6,14}\Z")]
# One @ and a host with a dot: what is finer than that the server must say, and does.
_Email = Annotated[str, Meta(max_length=254, pattern=r"^[^\s@]+@[^\s@.]+(\.[^\s@.]+)+\Z")]
_Url = Annotated[str, Meta(max_length=200, pattern=r"^[A-Za-z][A-Za-z0-9+.-]*://[^\s]+\Z")]
_Name = Annotated[str, Meta(max_length=100)]
_WANTED: Final = {
    "phone": "E.164: +, country code, number, 7 to 15 digits in all, such as '+5215512345678'",
    "email": "an e-mail address of at most 254 characters",
    "external_url": "a URL of at most 200 characters, such as 'https://crm.example/7'",
    "meta": "a dict with text keys and values that JSON has",
    "id": "a UUID",
    "contact_import": "a UUID",
}
_UNWRITABLE: Final = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)


class NewContact(Model, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody a new campaign is for, as ``run_flow`` takes them; what is not given is not sent.

    ``phone`` is in E.164 form: ``+``, country code and number, 7 to 15 digits without spaces. ``meta``
    is what the account shall know of the contact and the flow's texts can use. ``tags`` are words of at
    most 100 characters, ``default_assignees`` are users' numbers; with ``overwrite_meta``,
    ``overwrite_tags`` or ``overwrite_default_assignees`` they replace what the account has.

    Raises ``ValueError`` that names the field: a phone in another form, a name of over 100 characters,
    an e-mail address that is none or over 254, an ``external_url`` that is none or over 200.
    """

    phone: _Phone
    first_name: _Name | None = None
    last_name: _Name | None = None
    email: _Email | None = None
    meta: dict[str, JSON] | None = None
    external_url: _Url | None = None
    source: str | None = None
    tags: tuple[_Name, ...] = ()
    external_id: str | None = None
    native_id: str | None = None
    wa_id: str | None = None
    default_assignees: tuple[int, ...] = ()
    default_channel: int | None = None
    contact_import: UUID | None = None
    id: UUID | None = None
    created_on: DateTime | None = None
    is_deleted: bool | None = None
    overwrite_tags: bool = False
    overwrite_default_assignees: bool = False
    overwrite_meta: bool = False

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(self):
            value = getattr(self, field.name)
            if value is field.default:
                continue
            try:
                checked = msgspec.convert(value, field.type)
                msgspec.json.encode(checked)
            except _UNWRITABLE as error:
                told = isinstance(error, msgspec.ValidationError)
                reason = str(error).removeprefix("Expected ") if told else "a value that JSON has"
                wanted = _WANTED.get(field.name, reason)
                raise ValueError(f"NewContact({field.name}=...): wanted {wanted}") from None
            msgspec.structs.force_setattr(self, field.name, checked)

    def __repr__(self) -> str:
        fields = msgspec.structs.fields(self)
        given = [f.name for f in fields if getattr(self, f.name) is not f.default]
        return f"<NewContact with {', '.join(given)}>"


def run_body(contacts: Iterable[NewContact], *, has_priority: bool) -> bytes:
    """The body of the request that runs a flow for these contacts.

    Raises ``TypeError`` for what is no iterable of ``NewContact``, ``ValueError`` if there is none or
    if two have the same phone.
    """
    if isinstance(contacts, (NewContact, str, bytes)) or not isinstance(contacts, Iterable):
        raise TypeError(
            "contacts must be an iterable of NewContact, such as "
            f"[NewContact(phone='+5215512345678')], not one {type(contacts).__name__}"
        )
    _checks.instance("has_priority", has_priority, bool)
    places: dict[str, int] = {}
    listed: list[dict[str, JSON]] = []
    for place, contact in enumerate(contacts, 1):
        _checks.instance(f"contact {place}", contact, NewContact)
        if contact.phone in places:
            raise ValueError(
                f"contacts {places[contact.phone]} and {place} have the same phone; "
                "a run takes each contact once"
            )
        places[contact.phone] = place
        written: dict[str, JSON] = msgspec.to_builtins(contact)
        if contact.tags:
            written["tags"] = [{"name": tag} for tag in contact.tags]
        listed.append(written)
    if not listed:
        raise ValueError("contacts is empty: a run needs at least one contact")
    return msgspec.json.encode(
        {"execute_for": "LIST", "has_priority": has_priority, "contact_list": listed}
    )
