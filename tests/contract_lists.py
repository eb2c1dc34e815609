"""Random documents of the lists, of a run's reply and of their contacts, for both deployments.

The manner, and all that lies inside an execution, is that of ``contract``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from tests import contract
from tests.contract import Field, counts, date_times, documents, json_values, text, words

if TYPE_CHECKING:
    from hilos_async.models import JSON
    from tests.contract import JSONS

flags = st.booleans()
uuids = st.uuids().map(str)
tables = st.dictionaries(text, json_values, max_size=3)


def lists(inner: JSONS, most: int = 1) -> JSONS:
    return st.lists(inner, max_size=most).map(lambda made: [*made])


def person(*, native: bool) -> JSONS:
    if native:
        return contract.user(words("AGENT MANAGER ADMIN FINANCE"), email_required=False)
    return contract.user(counts, email_required=True)


def metas(*, native: bool) -> JSONS:
    return tables.map(lambda made: made) if native else json_values


def run_contact(*, native: bool) -> JSONS:
    note = documents(
        {
            "id": Field(counts, required=True),
            "notes": Field(text, required=True),
            "contact": Field(uuids, required=True),
            "created_on": Field(date_times, required=True),
            "created_by": Field(person(native=native)),
        }
    )
    tag = documents({"id": Field(counts, required=True), "name": Field(text, required=True)})
    return documents(
        {
            "phone": Field(text),
            "first_name": Field(text, null=True),
            "last_name": Field(text, null=True),
            "email": Field(text, null=True),
            "meta": Field(metas(native=native)),
            "external_url": Field(text, null=True),
            "is_deleted": Field(flags),
            "id": Field(uuids),
            "source": Field(text),
            "notes": Field(lists(note)),
            "created_on": Field(date_times),
            "tags": Field(lists(tag)),
            "external_id": Field(text, null=True),
            "native_id": Field(text, null=True),
            "default_assignees": Field(lists(counts)),
            "contact_import": Field(uuids, null=True),
            "default_channel": Field(counts, null=True),
            "wa_id": Field(text, null=True),
            "overwrite_tags": Field(flags),
            "overwrite_default_assignees": Field(flags),
            "overwrite_meta": Field(flags),
        }
    )


def brief(*, native: bool, run: bool, with_id: bool = False) -> JSONS:
    """A row of the list of executions, or what a run replies."""
    known = words(contract.statuses + (" PAUSED" if native else ""))
    fields = {
        "status": Field(known, required=run),
        "execute_for": Field(words("FILTERS LIST ALL"), required=True),
        "id": Field(uuids, required=with_id),
        "has_priority": Field(flags),
        "flow_execution_variables": Field(metas(native=native)),
        "start_on": Field(date_times, null=True),
        "created_on": Field(date_times),
        "avg_completion_time": Field(contract.durations | text),
    } | contract.counters
    if native:
        fields |= {
            "inbound_trigger_with": Field(words("ANY_MESSAGE TEXT IMAGE FILE")),
            "inbound_start_message": Field(text, null=True),
            "inbound_start_message_match_exact": Field(flags),
        }
    else:
        fields |= {
            "status_reason": Field(text, required=run, null=True),
            "status_last_change_on": Field(date_times, required=run, null=True),
            "status_triggered_by": Field(counts, required=run, null=True),
        }
    if run:
        fields |= {
            "contact_filters": Field(lists(contract.contact_filter)),
            "contact_list": Field(lists(run_contact(native=native))),
            "source": Field(words("HUBSPOT API FRONTEND")),
            "is_hidden": Field(flags),
        }
    else:
        fields["created_by"] = Field(person(native=native), required=True, null=True)
        if native:
            kinds = words("INBOUND OUTBOUND API FROM_FLOW")
            fields["execution_type"] = Field(kinds, required=True)
        else:
            fields["flow_version"] = Field(uuids, required=True)
    return documents(fields)


def contact(*, native: bool) -> JSONS:
    return documents(
        {
            "id": Field(text, required=True),
            "phone": Field(text, required=True),
            "source": Field(text, required=True),
            "last_updated_on": Field(date_times, required=True, null=True),
            "canonical_phone": Field(text, required=native, null=not native),
            "first_name": Field(text, null=True),
            "last_name": Field(text, null=True),
            "email": Field(text, null=True),
            "meta": Field(metas(native=native)),
            "is_deleted": Field(flags),
            "created_on": Field(date_times),
            "external_url": Field(text, null=True),
        }
    )


contact_statuses = "READY RUNNING COMPLETED CANCELED EXPIRED FAILED"


def contact_row(*, native: bool, with_id: bool = False) -> JSONS:
    known = words(contact_statuses + (" PAUSED" if native else ""))
    fields = {
        "id": Field(uuids, required=with_id or not native),
        "contact": Field(contact(native=native), required=True),
        "status": Field(known),
        "created_on": Field(date_times),
        "flow_name": Field(text, required=True),
    }
    if native:
        fields |= {
            "reason": Field(text, null=True),
            "is_chatbot_execution": Field(flags, required=True),
        }
    else:
        fields |= {
            "status_reason": Field(text, required=True, null=True),
            "is_test": Field(flags),
            "flow": Field(uuids, null=True),
            "flow_version": Field(uuids, null=True),
        }
    return documents(fields)


def message() -> JSONS:
    moments = ("timestamp", "queued_on", "accepted_on", "sent_on", "delivered_on", "read_on")
    texts = (
        *("to_number", "from_number", "contact", "provider_id", "provider_error_code"),
        *("provider_error_message", "content_type", "content_url", "context_message"),
        *("direction", "msg_type", "source"),
    )
    fields = {
        "id": Field(text, required=True),
        "body": Field(text, null=True),
        "status": Field(words("new sent delivered read failed undelivered"), required=True),
        "sent_by": Field(person(native=True), required=True, null=True),
        "is_deleted": Field(flags, required=True),
        "content": Field(tables.map(lambda made: made), required=True, null=True),
        "whatsapp_template": Field(tables.map(lambda made: made), required=True, null=True),
        "location": Field(tables.map(lambda made: made), required=True, null=True),
        "contacts": Field(lists(tables.map(lambda made: made)), required=True),
        "failed_attempts": Field(counts, required=True, null=True),
    }
    fields |= {name: Field(date_times, required=True, null=True) for name in moments}
    fields["failed_on"] = Field(date_times, required=True, null=True)
    fields |= {name: Field(text, required=True, null=True) for name in texts}
    return documents(fields)


def contact_in_full() -> JSONS:
    """One contact of an execution, as only the native deployment documents it."""
    wrapped = documents({"message": Field(message(), required=True)})
    step = documents(
        {
            "id": Field(uuids),
            "step": Field(tables.map(lambda made: made), required=True),
            "last_error_detail": Field(text, null=True),
            "has_error": Field(flags),
            "expire_on": Field(date_times, null=True),
            "status": Field(words("WAITING_TO_START NOT_EXECUTED RUNNING COMPLETED FAILED")),
            "validation_failed_attempts": Field(st.integers(0, 32_767)),
            "execution_result": Field(tables.map(lambda made: made), null=True),
            "request_data": Field(tables.map(lambda made: made), null=True),
            "messages": Field(lists(wrapped), required=True),
            "created_on": Field(date_times),
        }
    )
    return documents(
        {
            "id": Field(uuids),
            "contact": Field(contact(native=True), required=True),
            "status": Field(words(contact_statuses + " PAUSED")),
            "execution_steps": Field(lists(step), required=True),
            "created_on": Field(date_times),
            "flow_execution": Field(contract.execution(native=True), required=True),
            "reason": Field(text, null=True),
        }
    )


def page(row: JSONS, *, native: bool) -> st.SearchStrategy[dict[str, JSON]]:
    """A page of a list; the native contract promises not even a count."""
    addresses = st.just("https://elsewhere.example/api/x?page=2")
    return st.fixed_dictionaries(
        {} if native else {"count": counts, "results": lists(row, 2)},
        optional={
            **({"count": counts, "results": lists(row, 2)} if native else {}),
            "next": st.none() | addresses,
            "previous": st.none() | addresses,
        },
    )
