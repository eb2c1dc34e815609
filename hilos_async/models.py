"""The API's objects, under the path that users import them from."""

from hilos_async._api.contacts import (
    Contact,
    ContactNote,
    ContactTag,
    ExecutionContact,
    ExecutionStep,
    Message,
    RunContact,
    StepMessage,
)
from hilos_async._api.lists import ExecutionBrief, Page
from hilos_async._api.objects import (
    JSON,
    Channel,
    ContactFilter,
    Flow,
    FlowExecution,
    FlowVersion,
    User,
)
from hilos_async._api.runs import NewContact

__all__ = [
    "JSON",
    "Channel",
    "Contact",
    "ContactFilter",
    "ContactNote",
    "ContactTag",
    "ExecutionBrief",
    "ExecutionContact",
    "ExecutionStep",
    "Flow",
    "FlowExecution",
    "FlowVersion",
    "Message",
    "NewContact",
    "Page",
    "RunContact",
    "StepMessage",
    "User",
]
