"""What the fault tests share: a session that retries quickly, and what a batch with one bad id shows.

Knows the library and the raw server. Each file of faults says what goes wrong and what becomes of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from hilos_async import FlowExecution, HilosError, HilosSession, RetryPolicy
from tests.raw_server import document, ids

if TYPE_CHECKING:
    from uuid import UUID

    from tests.raw_server import RawServer

KEY = "fault-test-key"
IDS = ids(3)
ONE, BAD, OTHER = IDS


def session(base_url: str, **options: Any) -> HilosSession:
    """A session without a pace whose back-off is some milliseconds."""
    given: dict[str, Any] = {
        "token": KEY,
        "base_url": base_url,
        "timeout": 20.0,
        "pace": "off",
        "retry": RetryPolicy(max_backoff=0.01),
        **options,
    }
    return HilosSession(**given)


def expected(id: UUID) -> FlowExecution:
    """What a good reply decodes to."""
    return FlowExecution.from_json(document(id))


def is_idle(hilos: HilosSession) -> bool:
    """Nothing under way, and nobody waiting."""
    return hilos.stats.in_flight == 0 and hilos.stats.waiting == 0


async def the_error_of_the_bad_one(
    server: RawServer, hilos: HilosSession, patience: float = 30.0
) -> HilosError:
    """The error of the id that meets the fault; the others end in results, and so do later ones."""
    with anyio.fail_after(patience):
        batch = await hilos.gather_executions(IDS)
    assert batch.executions == {id: expected(id) for id in (ONE, OTHER)}
    assert list(batch.errors) == [BAD]
    assert is_idle(hilos)
    assert await hilos.get_execution(ONE) == expected(ONE)
    error = batch.errors[BAD]
    assert error.execution_id == BAD
    assert error.attempts == server.asked.count(BAD)
    return error
