"""The contract of requests in both deployments, and the refusals of Django REST Framework.

Pure, and written for this project: parameters and fields with their kinds and bounds. It judges what
came and knows no account. A parameter that no contract has is no error to Django, which ignores it in
silence: the fake notes it in `violations`.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast
from uuid import UUID

Kind = Literal["text", "uuid", "email", "url", "integer", "boolean", "date-time", "object", "any"]
Errors = dict[str, object]

_PAGED: dict[str, Kind] = {"page": "integer", "search": "text"}
_OF_ROWS: dict[str, Kind] = {
    "contact": "uuid",
    "execution_steps__step_id": "uuid",
    "flow_execution": "uuid",
    "id": "uuid",
    "is_active": "boolean",
    "page_size": "integer",
}
_EXECUTIONS: dict[str, Kind] = {"flow": "uuid", "flow_version": "uuid", **_PAGED}
_CONTACTS: dict[bool, dict[str, Kind]] = {
    False: {**_OF_ROWS, "flow": "uuid", "flow_version": "uuid", **_PAGED},
    True: {
        **_OF_ROWS,
        "flow_execution__flow": "uuid",
        "flow_execution__flow_version": "uuid",
        **_PAGED,
    },
}


def parameters(endpoint: str, *, native: bool) -> Mapping[str, Kind]:
    """Give the query parameters that an endpoint takes in one of the deployments."""
    return {"flow-execution": _EXECUTIONS, "flow-execution-contact": _CONTACTS[native]}.get(
        endpoint, {}
    )


@dataclass(frozen=True, slots=True)
class _Field:
    kind: Kind
    longest: int | None = None
    null: bool = False
    required: bool = False
    words: tuple[str, ...] = ()
    items: "Mapping[str, _Field] | Kind | None" = None  # of a list


_TAG = {"name": _Field("text", 100, required=True), "id": _Field("integer")}
_CONTACT: Mapping[str, _Field] = {
    "phone": _Field("text", 30),
    "first_name": _Field("text", 100, null=True),
    "last_name": _Field("text", 100, null=True),
    "email": _Field("email", 254, null=True),
    "meta": _Field("any"),
    "external_url": _Field("url", 200, null=True),
    "is_deleted": _Field("boolean"),
    "id": _Field("uuid"),
    "source": _Field("text"),
    "created_on": _Field("date-time"),
    "tags": _Field("object", items=_TAG),
    "external_id": _Field("text", null=True),
    "native_id": _Field("text", null=True),
    "default_assignees": _Field("integer", items="integer"),
    "contact_import": _Field("uuid", null=True),
    "default_channel": _Field("integer", null=True),
    "wa_id": _Field("text", null=True),
    "overwrite_tags": _Field("boolean"),
    "overwrite_default_assignees": _Field("boolean"),
    "overwrite_meta": _Field("boolean"),
}
# The native deployment takes a table only.
_CONTACT_NATIVE = {**_CONTACT, "meta": _Field("object")}


def _run(*, native: bool) -> Mapping[str, _Field]:
    return {
        "execute_for": _Field("text", required=True, words=("LIST",)),
        "has_priority": _Field("boolean"),
        "contact_list": _Field(
            "object", required=True, items=_CONTACT_NATIVE if native else _CONTACT
        ),
    }


_RUN = {native: _run(native=native) for native in (False, True)}


def query_errors(
    endpoint: str, query: Iterable[tuple[str, str]], *, native: bool
) -> tuple[Errors, list[str]]:
    """Judge a query: what a filter refuses, by its name, and every breach of the contract in words."""
    known = parameters(endpoint, native=native)
    refused: Errors = {}
    breaches: list[str] = []
    for name, value in query:
        if name not in known:
            breaches.append(f"{endpoint} has no parameter {name!r}")
        elif not _reads_as(known[name], value):
            breaches.append(f"{endpoint}?{name}= takes a value of kind {known[name]}")
            if known[name] == "uuid":  # Pages have an answer of their own, and flags none.
                refused[name] = ["Enter a valid UUID."]
    return refused, breaches


def run_errors(body: bytes, content_type: str, *, native: bool) -> tuple[int, Errors, list[str]]:
    """Judge the body of a run: the status and fields of the refusal, 0 if there is none; breaches."""
    if content_type != "application/json":
        said = f'Unsupported media type "{content_type}" in request.'
        return 415, {"detail": said}, [f"a run is sent as application/json, not {content_type}"]
    try:
        document = json.loads(body)
    except ValueError as error:
        return 400, {"detail": f"JSON parse error - {error}"}, ["the body of a run is no JSON"]
    if not isinstance(document, dict):
        said = f"Invalid data. Expected a dictionary, but got {type(document).__name__}."
        return 400, {"non_field_errors": [said]}, ["the body of a run is no object"]
    breaches: list[str] = []
    run = cast(Mapping[str, object], document)
    errors = _object_errors(run, _RUN[native], "run", breaches)
    return (400 if errors else 0), errors, breaches


def _object_errors(
    document: Mapping[str, object], fields: Mapping[str, _Field], where: str, breaches: list[str]
) -> Errors:
    errors: Errors = {}
    for name, field in fields.items():
        if name not in document:
            if field.required:
                errors[name] = ["This field is required."]
        elif (
            said := _value_errors(document[name], field, f"{where}.{name}", breaches)
        ) is not None:
            errors[name] = said
    breaches += [f"{where}.{name}: {said}" for name, said in errors.items()]
    breaches += [f"{where} has no field {name!r}" for name in document if name not in fields]
    return errors


def _value_errors(
    value: object, field: _Field, where: str, breaches: list[str]
) -> list[object] | None:
    if value is None:
        return None if field.null or field.kind == "any" else ["This field may not be null."]
    if field.items is not None:
        return _list_errors(value, field.items, where, breaches)
    if not _is(field.kind, value):
        return [_WRONG[field.kind]]
    if field.longest is not None and len(str(value)) > field.longest:
        return [f"Ensure this field has no more than {field.longest} characters."]
    if field.words and value not in field.words:
        return [f'"{value}" is not a valid choice.']
    return None


def _list_errors(
    value: object, items: Mapping[str, _Field] | Kind, where: str, breaches: list[str]
) -> list[object] | None:
    if not isinstance(value, list):
        return [f'Expected a list of items but got type "{type(value).__name__}".']
    found: list[object] = []
    for place, item in enumerate(cast(list[object], value)):
        if isinstance(items, str):
            found.append({} if _is(items, item) else [_WRONG[items]])
        elif isinstance(item, dict):
            one = cast(Mapping[str, object], item)
            found.append(_object_errors(one, items, f"{where}[{place}]", breaches))
        else:
            kind = type(item).__name__
            said = f"Invalid data. Expected a dictionary, but got {kind}."
            found.append({"non_field_errors": [said]})
    return found if any(found) else None


_WRONG: Mapping[Kind, str] = {
    "text": "Not a valid string.",
    "uuid": "Must be a valid UUID.",
    "email": "Enter a valid email address.",
    "url": "Enter a valid URL.",
    "integer": "A valid integer is required.",
    "boolean": "Must be a valid boolean.",
    "date-time": "Datetime has wrong format.",
    "object": "Expected a dictionary of items.",
}
_PATTERNS: Mapping[Kind, re.Pattern[str]] = {
    "email": re.compile(r"[^@\s]+@[^@\s.]+(?:\.[^@\s.]+)+"),
    "url": re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE),
}


def _is(kind: Kind, value: object) -> bool:
    """Say whether a value of JSON is of that kind."""
    match kind:
        case "any":
            return True
        case "object":
            return isinstance(value, dict)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case _:
            return isinstance(value, str) and _reads_as(kind, value)


def _reads_as(kind: Kind, value: str) -> bool:
    """Say whether a text, of a query or of JSON, reads as one of that kind."""
    match kind:
        case "uuid":
            return _parses(UUID, value)
        case "integer":
            return _parses(int, value)
        case "date-time":
            return _parses(datetime.fromisoformat, value)
        case "boolean":
            return value.lower() in ("true", "false")
        case "email" | "url":
            return _PATTERNS[kind].fullmatch(value) is not None
        case _:
            return True


def _parses(read: Callable[[str], object], value: str) -> bool:
    try:
        read(value)
    except ValueError:
        return False
    return True
