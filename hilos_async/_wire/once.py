"""A request that starts something: it is sent once, and whatever then is unclear is said to be."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hilos_async import _log
from hilos_async._api.endpoints import RUN
from hilos_async._wire.call import SINGLE, Call, Sending
from hilos_async.errors import DecodeError, HilosError, OutcomeUnknownError, StatusError

if TYPE_CHECKING:
    from uuid import UUID

    from hilos_async._api.lists import ExecutionBrief
    from hilos_async._wire.client import Client


async def run(client: Client, flow_id: UUID, body: bytes) -> ExecutionBrief:
    """Run a flow, and return the execution that this has made.

    Raises ``OutcomeUnknownError`` if it may have been made all the same, the plain error if it has not.
    """
    sending = Sending("POST", body=body)
    started = client.clock()
    call = Call(
        client.reader(RUN),
        RUN.path(flow_id),
        None,
        SINGLE,
        client.bounds,
        started,
        client.bounds.timeout,
        sending,
    )
    try:
        brief = await client.answer(call)
        if brief.id is None:
            raise DecodeError(f"the reply to {call.path} has no id", path="$.id")
    except asyncio.CancelledError:
        if sending.begun_at is not None:
            _log.run_abandoned(flow_id, sending.begun_at)
        raise
    except HilosError as error:
        if sending.begun_at is None or _has_started_nothing(error):
            raise
        unknown = _unknown(flow_id, sending.begun_at, error)
        unknown.attempts, unknown.elapsed = call.attempts, client.clock() - started
        raise unknown from error
    return brief


def _has_started_nothing(error: HilosError) -> bool:
    return isinstance(error, StatusError) and 400 <= error.status < 500 and error.status != 408


def _unknown(flow_id: UUID, sent_at: datetime, cause: HilosError) -> OutcomeUnknownError:
    since = sent_at.astimezone(UTC).isoformat(timespec="seconds")
    return OutcomeUnknownError(
        f"the run of flow {flow_id} may have started: {cause.args[0]}. It is not sent again. If it has "
        f"started, list_executions(flow=...) shows an execution created since {since}",
        flow_id=flow_id,
        sent_at=sent_at,
    )
