"""The execution as pydantic models, on whichever base a client wants."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID


def models(base: Any) -> Any:
    """The model of an execution; the annotations are read by pydantic when the classes are made."""

    def model(name: str, /, **fields: Any) -> Any:
        body: dict[str, Any] = {"__annotations__": fields, "__module__": __name__}
        body |= {field: None for field, kind in fields.items() if kind == kind | None}
        return type(name, (base,), body)

    user = model(
        "User",
        id=int,
        email=str,
        first_name=str | None,
        last_name=str | None,
        profile_image=str | None,
        role=int | None,
    )
    channel = model(
        "Channel",
        id=int,
        channel_id=str,
        name=str | None,
        channel_type=str | None,
        status=str | None,
        channel_provider=str | None,
        is_sandbox=bool | None,
        created_on=datetime | None,
    )
    contact_filter = model("Filter", field=str, comparison=str, value=str, id=UUID | None)
    flow = model(
        "Flow",
        id=str,
        name=str,
        channel=channel | None,
        created_by=user | None,
        created_on=datetime | None,
        status=str | None,
        is_active=bool | None,
        is_legacy=bool | None,
        flow_execution_variables=list[str] | None,
        trigger_type=str | None,
        trigger_config=dict[str, Any] | None,
    )
    counters = dict.fromkeys(
        ("num_contacts", "completed", "running", "failed", "expired", "canceled"), int
    )
    version = model(
        "FlowVersion",
        flow=flow,
        is_current_version=bool,
        last_updated_on=datetime | None,
        published_by=user | None,
        id=UUID | None,
        version_name=str | None,
        version_description=str | None,
        created_on=datetime | None,
        avg_completion_time=str | None,
        **counters,
    )
    return model(
        "FlowExecution",
        status=str,
        execute_for=str,
        flow=flow,
        flow_version=version,
        created_by=user | None,
        last_run_on=datetime | None,
        id=UUID | None,
        has_priority=bool | None,
        flow_execution_variables=dict[str, Any] | None,
        start_on=datetime | None,
        created_on=datetime | None,
        avg_completion_time=str | None,
        status_reason=str | None,
        status_triggered_by=user | None,
        status_last_change_on=datetime | None,
        contact_filters=list[contact_filter],  # type: ignore[valid-type] # made at run time
        contact_import=UUID | None,
        **counters,
    )
