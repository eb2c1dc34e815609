"""The contract of both deployments, written down for this project, and random documents of it.

Field, type, whether it is required and whether null was promised; what a document may hold beyond
that (absent optional fields, nulls in required ones, unknown fields and words) is in `documents`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, timedelta, timezone
from typing import TYPE_CHECKING, TypeAlias

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hilos_async.models import JSON

JSONS: TypeAlias = "st.SearchStrategy[JSON]"

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values: JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
texts: JSONS = st.lists(text, max_size=3).map(lambda words: [*words])
date_times = st.datetimes(
    timezones=st.sampled_from(
        [UTC, *(timezone(timedelta(minutes=m)) for m in (-360, -210, 60, 345, 840))]
    )
).map(lambda moment: moment.isoformat())
counts = st.integers(0, 2_147_483_647)
durations = st.builds(
    lambda d, h, m, s, us: (
        (f"{d} " if d else "") + f"{h:02}:{m:02}:{s:02}" + (f".{us:06}" if us else "")
    ),
    st.integers(0, 9999),
    st.integers(0, 23),
    st.integers(0, 59),
    st.integers(0, 59),
    st.integers(0, 999_999),
)


def words(listed: str) -> JSONS:
    """One of the contract's words, or now and then one it does not know yet."""
    return st.sampled_from(listed.split()) | st.text("ABCDEFG_", min_size=1, max_size=12)


@dataclass(frozen=True)
class Field:
    """A property: what it holds, and whether the contract says it is there and may be null."""

    values: JSONS
    required: bool = False
    null: bool = False


def documents(fields: Mapping[str, Field]) -> JSONS:
    """Objects with these fields, absent where they may be, and with fields nobody announced."""
    known = {
        name: field.values | st.none() if field.null else field.values
        for name, field in fields.items()
    }
    required = {name: known[name] for name, field in fields.items() if field.required}
    optional = {name: known[name] for name, field in fields.items() if not field.required}
    extra = st.dictionaries(text.map(lambda name: f"x_{name}"), json_values, max_size=2)
    return st.builds(
        lambda known, extra: {**extra, **known},
        st.fixed_dictionaries(required, optional=optional),
        extra,
    )


def user(role: JSONS, email_required: bool) -> JSONS:
    return documents(
        {
            "id": Field(counts, required=True),
            "email": Field(text, required=email_required),
            "first_name": Field(text),
            "last_name": Field(text),
            "profile_image": Field(text, null=True),
            "role": Field(role, null=True),
        }
    )


channel = documents(
    {
        "id": Field(counts, required=True, null=True),
        "channel_id": Field(text, required=True),
        "channel_type": Field(words("WHATSAPP EMAIL INSTAGRAM FB_MESSENGER TELEGRAM SMS VOICE")),
        "name": Field(text),
        "status": Field(words("NEW ACTIVE INACTIVE")),
        "created_on": Field(date_times),
        "channel_provider": Field(
            words("META_CLOUD_API TECH_PROVIDER_CLOUD_API D360_CLOUD_API 360DIALOG")
        ),
        "is_sandbox": Field(st.booleans()),
    }
)
contact_filter = documents(
    {
        "field": Field(text, required=True),
        "comparison": Field(
            words("exact !exact gte gt lte lt isnull !isnull icontains !icontains"), required=True
        ),
        "value": Field(text, required=True),
        "id": Field(st.uuids().map(str)),
    }
)
counters = {
    name: Field(counts, null=True)
    for name in ("num_contacts", "expired", "running", "completed", "canceled", "failed")
}
statuses = "PROCESSING READY AWAITING_CONFIRMATION CONFIRMED STARTING RUNNING COMPLETED CANCELED"


def execution(*, native: bool) -> JSONS:
    """Documents of one deployment; a read-only user, date, reason or number may always be null."""
    person = (
        user(words("AGENT MANAGER ADMIN FINANCE"), email_required=False)
        if native
        else user(counts, email_required=True)
    )
    flow = documents(
        {
            "id": Field(text, required=True),
            "name": Field(text, required=True),
            "created_by": Field(person, required=True, null=True),
            "channel": Field(channel, required=True, null=True),
            "created_on": Field(date_times),
            "is_active": Field(st.booleans()),
            "status": Field(words("DRAFT PUBLISHED")),
            "is_legacy": Field(st.booleans()),
            "flow_execution_variables": Field(texts, null=True),
        }
        | (
            {}
            if native
            else {
                "trigger_type": Field(words("OUTBOUND_CAMPAIGN_API META_C2WA CSAT"), required=True),
                "trigger_config": Field(json_values),
            }
        )
    )
    version = documents(
        {
            "id": Field(st.uuids().map(str)),
            "flow": Field(flow, required=True),
            "is_current_version": Field(st.booleans(), required=True),
            "version_name": Field(text),
            "version_description": Field(text, null=True),
            "published_by": Field(person, required=True, null=True),
            "created_on": Field(date_times),
            "last_updated_on": Field(date_times, required=True, null=True),
            "avg_completion_time": Field(durations | text),
        }
        | counters
        | ({"execution_type": Field(words("INBOUND OUTBOUND"), required=True)} if native else {})
    )
    return documents(
        {
            "status": Field(words(statuses + (" PAUSED" if native else "")), required=True),
            "execute_for": Field(words("FILTERS LIST ALL"), required=True),
            "id": Field(st.uuids().map(str)),
            "has_priority": Field(st.booleans()),
            "flow_execution_variables": Field(json_values),
            "start_on": Field(date_times, null=True),
            "created_on": Field(date_times),
            "avg_completion_time": Field(durations | text),
            "created_by": Field(person, required=True, null=True),
            "contact_filters": Field(st.lists(contact_filter, max_size=2)),
            "contact_import": Field(st.uuids().map(str), null=True),
            "flow": Field(flow, required=True),
            "flow_version": Field(version, required=True),
            "last_run_on": Field(text if native else date_times, required=True, null=True),
        }
        | counters
        | (
            {
                "execution_type": Field(words("INBOUND OUTBOUND API FROM_FLOW"), required=True),
                "inbound_trigger_with": Field(words("ANY_MESSAGE TEXT IMAGE FILE")),
                "inbound_start_message": Field(text, null=True),
                "inbound_start_message_match_exact": Field(st.booleans()),
            }
            if native
            else {
                "status_reason": Field(text, required=True, null=True),
                "status_triggered_by": Field(person, required=True, null=True),
                "status_last_change_on": Field(date_times, required=True, null=True),
            }
        )
    )
