"""The API's words, under the path that users import them from."""

from hilos_async._api.words import (
    ChannelProvider,
    ChannelStatus,
    ChannelType,
    Comparison,
    ExecuteFor,
    ExecutionSource,
    ExecutionType,
    FlowExecutionContactStatus,
    FlowExecutionStatus,
    FlowStatus,
    InboundTrigger,
    MessageStatus,
    OpenEnum,
    StepStatus,
    TriggerType,
    UserRole,
)

__all__ = [
    "ChannelProvider",
    "ChannelStatus",
    "ChannelType",
    "Comparison",
    "ExecuteFor",
    "ExecutionSource",
    "ExecutionType",
    "FlowExecutionContactStatus",
    "FlowExecutionStatus",
    "FlowStatus",
    "InboundTrigger",
    "MessageStatus",
    "OpenEnum",
    "StepStatus",
    "TriggerType",
    "UserRole",
]
