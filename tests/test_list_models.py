"""Lists, contacts and runs: both contracts decode, come back equal, and show nobody's data."""

from __future__ import annotations

import copy
import json
import pickle
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilos_async import (
    Contact,
    ContactNote,
    DecodeError,
    ExecutionBrief,
    ExecutionContact,
    ExecutionStep,
    FlowExecutionContactStatus,
    Message,
    NewContact,
    RunContact,
)
from hilos_async._api.endpoints import EXECUTION_CONTACTS, EXECUTIONS
from hilos_async._api.replies import Reader
from hilos_async._api.runs import run_body
from tests import contract_lists as lists

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hilos_async.models import JSON

ID = UUID("a1b2c3d4-0000-4000-8000-1234567890ab")
deployments = st.booleans()
briefs = deployments.flatmap(
    lambda native: st.booleans().flatmap(lambda run: lists.brief(native=native, run=run))
)
contacts = deployments.flatmap(lambda native: lists.contact_row(native=native))


# What is whatever JSON it is, and comes back as it came.
ANYTHING = {
    *("meta", "flow_execution_variables", "trigger_config", "step", "execution_result"),
    *("request_data", "content", "whatsapp_template", "location", "contacts"),
}


def same_words(plain: dict[str, JSON], raw: dict[str, JSON]) -> None:
    """Each text and flag of the document, at any depth, is one of the model's, under its name."""
    for named, value in raw.items():
        name = "status_reason" if named == "reason" else named
        if name.startswith("x_") or name.endswith("_on") or name == "timestamp":
            continue
        inner = plain[name]
        if name in ANYTHING or isinstance(value, str | bool):
            assert inner == value
        elif isinstance(value, dict):
            assert isinstance(inner, dict)
            same_words(inner, value)
        elif isinstance(value, list):
            assert isinstance(inner, list)
            for ours, theirs in zip(inner, value, strict=True):
                if isinstance(theirs, dict):
                    assert isinstance(ours, dict)
                    same_words(ours, theirs)
                else:
                    assert ours == theirs


@given(briefs)
def test_rows_and_replies_to_a_run_decode_and_come_back_equal(raw: dict[str, JSON]) -> None:
    brief = ExecutionBrief.from_json(json.dumps(raw))
    assert ExecutionBrief.from_json(brief.to_json()) == brief
    assert pickle.loads(pickle.dumps(brief)) == copy.deepcopy(brief) == brief
    assert json.loads(json.dumps(brief.to_dict())) == json.loads(brief.to_json())
    same_words(json.loads(brief.to_json()), raw)


@given(contacts | lists.contact_in_full())
def test_contacts_decode_and_come_back_equal(raw: dict[str, JSON]) -> None:
    contact = ExecutionContact.from_json(json.dumps(raw))
    assert ExecutionContact.from_json(contact.to_json()) == contact
    assert pickle.loads(pickle.dumps(contact)) == copy.deepcopy(contact) == contact
    assert json.loads(json.dumps(contact.to_dict())) == json.loads(contact.to_json())
    same_words(json.loads(contact.to_json()), raw)


@given(
    deployments.flatmap(
        lambda native: lists.page(lists.contact_row(native=native, with_id=True), native=native)
    )
)
def test_pages_decode_and_next_is_a_yes_or_a_no(raw: dict[str, JSON]) -> None:
    page = Reader(EXECUTION_CONTACTS).read(200, json.dumps(raw).encode(), "rows", None).page(7)
    assert (page.number, page.count) == (7, raw.get("count", 0))
    assert page.has_next is bool(raw.get("next"))
    rows = raw.get("results", [])
    assert isinstance(rows, list)
    assert [row.to_json() for row in page.results] == [
        ExecutionContact.from_json(json.dumps(row)).to_json() for row in rows
    ]


@given(deployments.flatmap(lambda native: lists.brief(native=native, run=False, with_id=True)))
def test_a_page_of_executions_decodes(raw: dict[str, JSON]) -> None:
    body = json.dumps({"count": 1, "results": [raw]}).encode()
    page = Reader(EXECUTIONS).read(200, body, "rows", None).page(1)
    assert page.results == (ExecutionBrief.from_json(json.dumps(raw)),)


def test_the_two_names_of_the_reason_are_one() -> None:
    plain: dict[str, JSON] = {"id": "7", "phone": "+5", "source": "x", "last_updated_on": None}
    for name in ("reason", "status_reason"):
        row = ExecutionContact.from_json(json.dumps({"contact": plain, name: "no answer"}))
        assert row.status_reason == "no answer"
        assert b'"reason"' not in row.to_json()


def test_a_row_without_an_id_is_refused_with_its_place() -> None:
    rows: list[JSON] = [{"execute_for": "ALL", "id": str(ID)}, {"execute_for": "ALL"}]
    body = json.dumps({"count": 2, "results": rows}).encode()
    with pytest.raises(DecodeError, match=r"`results\[1\]` has no `id`"):
        Reader(EXECUTIONS).read(200, body, "rows", None)


@pytest.mark.parametrize(
    ("status", "over"),
    [("READY", False), ("PAUSED", False), ("COMPLETED", True), ("EXPIRED", True), ("NEW", False)],
)
def test_it_is_over_for_a_contact_that_ended_in_any_way(status: str, over: bool) -> None:
    assert FlowExecutionContactStatus(status).is_terminal is over


def test_no_repr_shows_who_people_are_or_what_they_wrote() -> None:
    secret = "maria@example.org"
    person = Contact(id="7", phone=secret, source=secret, last_updated_on=None, meta=secret)
    message = Message(id="m", body=secret, to_number=secret)
    shown: Iterable[object] = (
        person,
        ExecutionContact(contact=person, id=ID, status_reason=secret),
        RunContact(
            phone=secret, notes=(ContactNote(id=1, notes=secret, contact=ID, created_on=None),)
        ),
        ContactNote(id=1, notes=secret, contact=ID, created_on=None),
        ExecutionStep(step=secret, messages=(), execution_result=secret),
        message,
        NewContact(phone="+5215512345678", email=secret, meta={"name": secret}),
        ExecutionBrief.from_json(
            json.dumps({"execute_for": "LIST", "contact_list": [{"phone": secret}]})
        ),
    )
    for thing in shown:
        assert secret not in repr(thing)
        assert "5512345678" not in repr(thing)
        assert "\n" not in repr(thing)


# --- contacts of a new campaign


def test_a_run_sends_what_was_given_and_nothing_else() -> None:
    contact = NewContact(
        phone="+5215512345678",
        first_name="Ana",
        meta={"plan": "gold"},
        tags=("vip",),
        id=ID,
        overwrite_meta=True,
    )
    assert json.loads(run_body(iter([contact]), has_priority=True)) == {
        "execute_for": "LIST",
        "has_priority": True,
        "contact_list": [
            {
                "phone": "+5215512345678",
                "first_name": "Ana",
                "meta": {"plan": "gold"},
                "tags": [{"name": "vip"}],
                "id": str(ID),
                "overwrite_meta": True,
            }
        ],
    }


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        *(
            ("phone", wrong)
            for wrong in ("5587654321", "+052155", "+52 1 55 1234", "+5215512345678\n")
        ),
        *(
            ("phone", wrong)
            for wrong in ("+1234567890123456", "", 5215512345678, None, "+٥٢١٥٥١٢٣٤٥٦٧")
        ),
        *((name, "x" * 101) for name in ("first_name", "last_name")),
        *((name, 5) for name in ("first_name", "source", "external_id", "native_id", "wa_id")),
        *(("email", wrong) for wrong in ("ana", "a b@c.mx", "a@b", "x" * 250 + "@b.mx")),
        *(("external_url", wrong) for wrong in ("crm/7", "https://x.mx/" + "y" * 200)),
        *(
            ("meta", wrong)
            for wrong in ([1], {1: 2}, {"a": object()}, "maria@example.org", {"a": "\ud800"})
        ),
        *(("tags", wrong) for wrong in ("vip", ["x" * 101], [5])),
        ("default_assignees", ["ana"]),
        ("default_channel", "1"),
        ("id", "no uuid"),
        ("contact_import", 7),
        ("overwrite_tags", 1),
        ("first_name", "\ud800"),
    ],
)
def test_a_contact_that_cannot_be_sent_is_refused_by_the_name_of_its_field(
    field: str, wrong: object
) -> None:
    given: dict[str, object] = {"phone": "+5215512345678", field: wrong}
    with pytest.raises(ValueError, match=rf"NewContact\({field}=") as caught:
        NewContact(**given)  # type: ignore[arg-type]  # wrong on purpose
    if isinstance(wrong, str) and wrong:
        assert wrong not in str(caught.value)


def test_a_contact_takes_ids_as_text_and_lists_where_it_keeps_tuples() -> None:
    contact = NewContact(phone="+5215512345678", id=str(ID), tags=["a", "b"])  # type: ignore[arg-type]  # JSON has no others
    assert (contact.id, contact.tags) == (ID, ("a", "b"))


@pytest.mark.parametrize(
    ("contacts", "error", "words"),
    [
        ([], ValueError, "at least one"),
        ([NewContact(phone="+5215512345678")] * 2, ValueError, "1 and 2 have the same phone"),
        (NewContact(phone="+5215512345678"), TypeError, "iterable of NewContact"),
        ("+5215512345678", TypeError, "iterable of NewContact"),
        (None, TypeError, "iterable of NewContact"),
        (["+5215512345678"], TypeError, "contact 1 must be a NewContact"),
        ([{"phone": "+5215512345678"}], TypeError, "contact 1 must be a NewContact"),
    ],
)
def test_contacts_that_make_no_run_are_refused(
    contacts: list[NewContact], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        run_body(contacts, has_priority=False)
    assert "5512345678" not in str(caught.value).replace("phone='+5215512345678'", "")
