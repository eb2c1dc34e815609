"""The API's words, under the path that users import them from."""

from hilos_async._api.words import (
    ChannelProvider,
    ChannelStatus,
    ChannelType,
    Comparison,
    ExecuteFor,
    ExecutionType,
    FlowExecutionStatus,
    FlowStatus,
    InboundTrigger,
    OpenEnum,
    TriggerType,
    UserRole,
)

__all__ = [
    "ChannelProvider",
    "ChannelStatus",
    "ChannelType",
    "Comparison",
    "ExecuteFor",
    "ExecutionType",
    "FlowExecutionStatus",
    "FlowStatus",
    "InboundTrigger",
    "OpenEnum",
    "TriggerType",
    "UserRole",
]
