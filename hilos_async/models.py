"""The API's objects, under the path that users import them from."""

from hilos_async._api.objects import (
    JSON,
    Channel,
    ContactFilter,
    Flow,
    FlowExecution,
    FlowVersion,
    User,
)

__all__ = ["JSON", "Channel", "ContactFilter", "Flow", "FlowExecution", "FlowVersion", "User"]
