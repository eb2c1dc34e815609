"""An execution as one flat row: what tables and DataFrames are made of."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilos_async._api.objects import FlowExecution, User

Cell = str | int | float | datetime | None
"""A date-time is aware; ``None`` is an empty cell."""


def _user(user: User | None) -> str | None:
    if user is None:
        return None
    return user.email or " ".join(filter(None, (user.first_name, user.last_name))) or None


def _average(execution: FlowExecution) -> Cell:
    average = execution.average_completion
    return execution.avg_completion_time if average is None else average.total_seconds()


def _channel(execution: FlowExecution) -> str | None:
    channel = execution.flow.channel
    return None if channel is None else channel.name or channel.channel_id


# In the API's own words, so that people can search its documentation.
COLUMNS: Final[dict[str, Callable[[FlowExecution], Cell]]] = {
    "status": lambda execution: str(execution.status),
    "flow_id": lambda execution: execution.flow.id,
    "flow": lambda execution: execution.flow.name,
    "flow_version": lambda execution: execution.flow_version.version_name,
    "channel": _channel,
    "execute_for": lambda execution: str(execution.execute_for),
    "num_contacts": lambda execution: execution.num_contacts,
    "completed": lambda execution: execution.completed,
    "running": lambda execution: execution.running,
    "failed": lambda execution: execution.failed,
    "expired": lambda execution: execution.expired,
    "canceled": lambda execution: execution.canceled,
    "completion_rate": lambda execution: execution.completion_rate,
    "avg_completion_seconds": _average,
    "created_on": lambda execution: execution.created_on,
    "start_on": lambda execution: execution.start_on,
    "last_run_on": lambda execution: execution.last_run_on or execution.last_run_text,
    "status_last_change_on": lambda execution: execution.status_last_change_on,
    "status_reason": lambda execution: execution.status_reason,
    "created_by": lambda execution: _user(execution.created_by),
}
