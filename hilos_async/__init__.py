"""hilos_async: flow executions of the Hilos WhatsApp platform, one or thousands, from asyncio."""

from hilos_async._many.batch import Batch, ExecutionBatch, Progress
from hilos_async._many.stream import Failed, Fetched, Lookup, Stream
from hilos_async._many.summary import Summary, SummaryRow
from hilos_async._many.watch import Change
from hilos_async._pace.pacer import Pace, Pacer, Quota, RateLimit, Reply
from hilos_async._version import __version__
from hilos_async._wire.gate import Stats
from hilos_async._wire.retry import RetryPolicy
from hilos_async.enums import (
    ChannelProvider,
    ChannelStatus,
    ChannelType,
    Comparison,
    ExecuteFor,
    ExecutionType,
    FlowExecutionStatus,
    FlowStatus,
    InboundTrigger,
    TriggerType,
    UserRole,
)
from hilos_async.errors import (
    AttemptTimeoutError,
    AuthenticationError,
    DeadlineExceededError,
    DecodeError,
    HilosError,
    InvalidIdError,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RateLimitError,
    ResponseTooLargeError,
    ServerError,
    SessionClosedError,
    StatusError,
    TransportError,
)
from hilos_async.models import Channel, ContactFilter, Flow, FlowExecution, FlowVersion, User
from hilos_async.session import HilosSession

__all__ = [
    "AttemptTimeoutError",
    "AuthenticationError",
    "Batch",
    "Change",
    "Channel",
    "ChannelProvider",
    "ChannelStatus",
    "ChannelType",
    "Comparison",
    "ContactFilter",
    "DeadlineExceededError",
    "DecodeError",
    "ExecuteFor",
    "ExecutionBatch",
    "ExecutionType",
    "Failed",
    "Fetched",
    "Flow",
    "FlowExecution",
    "FlowExecutionStatus",
    "FlowStatus",
    "FlowVersion",
    "HilosError",
    "HilosSession",
    "InboundTrigger",
    "InvalidIdError",
    "Lookup",
    "NotFoundError",
    "OutcomeUnknownError",
    "Pace",
    "Pacer",
    "PermissionDeniedError",
    "Progress",
    "Quota",
    "RateLimit",
    "RateLimitError",
    "Reply",
    "ResponseTooLargeError",
    "RetryPolicy",
    "ServerError",
    "SessionClosedError",
    "Stats",
    "StatusError",
    "Stream",
    "Summary",
    "SummaryRow",
    "TransportError",
    "TriggerType",
    "User",
    "UserRole",
    "__version__",
]
