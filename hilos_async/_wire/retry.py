"""Retry as a decision about an error: which, how long, when to stop. Built on tenacity.

Knows the error tree and the policy's numbers. Refuses to know HTTP, sockets or who waits: the
attempt and the sleep are given.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from tenacity import AsyncRetrying, retry_if_exception

from hilos_async._checks import positive, whole
from hilos_async.errors import HilosError, RateLimitError, StatusError, TransportError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

_FIRST_BACKOFF: Final = 0.5
_NOT_IMPROVING: Final = frozenset({501, 505})  # the server cannot do it at all
_TRANSIENT_4XX: Final = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how patiently a lookup is tried again.

    ``attempts``: requests for one lookup that may end in a transport error or a 5xx, the first
    included (1 or more); a 429 does not use one up, the deadline bounds those.
    ``max_backoff``: the longest wait between two of them, in seconds; the n-th wait is drawn evenly
    from 0 to ``min(max_backoff, 0.5 * 2**(n-1))`` (full jitter).
    ``max_retry_after``: the longest ``Retry-After`` that is obeyed, in seconds; a longer one is an
    error at once.

    Raises ``ValueError`` or ``TypeError`` for a number out of these bounds.
    """

    attempts: int = 4
    max_backoff: float = 20.0
    max_retry_after: float = 120.0

    def __post_init__(self) -> None:
        whole("attempts", self.attempts)
        positive("max_backoff", self.max_backoff)
        positive("max_retry_after", self.max_retry_after)

    def again(self, error: BaseException) -> bool:
        """Whether to ask the same again: it can help, and the server does not ask for too long."""
        wait = error.retry_after if isinstance(error, StatusError) else None
        return is_transient(error) and (wait is None or wait <= self.max_retry_after)

    def backoff(self, failures: int) -> float:
        """Seconds to wait after that many failures (1 or more): full jitter."""
        ceiling = min(self.max_backoff, _FIRST_BACKOFF * 2.0 ** min(failures - 1, 60))
        return random.uniform(0.0, ceiling)


def is_transient(error: BaseException) -> bool:
    """Whether asking the same again can help."""
    if isinstance(error, TransportError):
        return error.transient
    if not isinstance(error, StatusError):
        return False
    if error.status >= 500:
        return error.status not in _NOT_IMPROVING
    return error.status in _TRANSIENT_4XX


def is_refusal(error: BaseException) -> bool:
    """Whether the server asks everybody to wait: 429, or another transient one with Retry-After."""
    return isinstance(error, RateLimitError) or (
        isinstance(error, StatusError) and error.retry_after is not None and is_transient(error)
    )


def is_bare_503(error: BaseException) -> bool:
    """Whether it is a 503 that does not say when to come back: a limiter's, or trouble."""
    return isinstance(error, StatusError) and error.status == 503 and error.retry_after is None


async def retry(
    first: list[HilosError],
    attempt: Callable[[], Awaitable[T]],
    *,
    exhausted: Callable[[], bool],
    delay: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
    again: Callable[[BaseException], bool],
) -> T:
    """Go on after the ``first`` attempt, whose error is taken from the list, until one succeeds.

    A success costs nothing here: tenacity is only asked once there is a failure to judge, and that
    one is replayed to it as the outcome of its first attempt. Raises the last error once the attempts
    are exhausted. In a list, so that no frame keeps an error whose traceback leads to the frame.
    """

    async def replay_then_attempt() -> T:
        if first:
            raise first.pop()
        return await attempt()

    # One per lookup: a shared AsyncRetrying mixes the state of concurrent tasks.
    retrying = AsyncRetrying(
        retry=retry_if_exception(again),
        stop=lambda _: exhausted(),
        wait=lambda _: delay(),
        sleep=sleep,
        reraise=True,
    )
    return await retrying(replay_then_attempt)
