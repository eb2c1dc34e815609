"""Retry is a decision about an error; these are the decisions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilos_async import (
    AttemptTimeoutError,
    AuthenticationError,
    DeadlineExceededError,
    DecodeError,
    HilosError,
    NotFoundError,
    RateLimitError,
    ResponseTooLargeError,
    RetryPolicy,
    ServerError,
    SessionClosedError,
    StatusError,
    TransportError,
)
from hilos_async._wire.retry import is_refusal, is_transient, retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.anyio


def status(code: int, retry_after: float | None = None) -> StatusError:
    kind = {401: AuthenticationError, 404: NotFoundError, 429: RateLimitError}.get(
        code, ServerError if code >= 500 else StatusError
    )
    return kind("x", status=code, retry_after=retry_after)


@pytest.mark.parametrize(
    ("error", "transient", "refusal"),
    [
        (TransportError("x"), True, False),
        (TransportError("x", transient=False), False, False),
        (AttemptTimeoutError("x"), True, False),
        *((status(code), True, False) for code in (408, 425, 500, 502, 503, 504, 520)),
        *((status(code, 1.0), True, True) for code in (408, 425, 500, 502, 503, 504)),
        (status(429), True, True),
        (status(429, 30.0), True, True),
        *((status(code), False, False) for code in (301, 400, 401, 403, 404, 405, 410, 501, 505)),
        (status(404, 30.0), False, False),
        (DecodeError("x"), False, False),
        (ResponseTooLargeError("x", limit=1), False, False),
        (DeadlineExceededError("x"), False, False),
        (SessionClosedError("x"), False, False),
        (asyncio.CancelledError(), False, False),
        (KeyboardInterrupt(), False, False),
        (ZeroDivisionError(), False, False),
    ],
)
def test_what_is_retried_and_what_pauses_everybody(
    error: BaseException, transient: bool, refusal: bool
) -> None:
    assert is_transient(error) is transient
    assert is_refusal(error) is refusal


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (status(429, 120.0), True),
        (status(429, 121.0), False),
        (status(503, 1e9), False),
        (status(503), True),
        (status(404), False),
        (TransportError("x"), True),
    ],
)
def test_a_wait_above_max_retry_after_is_not_waited_for(error: HilosError, again: bool) -> None:
    assert RetryPolicy().again(error) is again


@given(st.integers(1, 10_000), st.floats(0.01, 100))
def test_backoff_is_full_jitter_under_a_ceiling_that_doubles(failures: int, longest: float) -> None:
    wait = RetryPolicy(max_backoff=longest).backoff(failures)
    assert 0 <= wait <= min(longest, 0.5 * 2.0 ** min(failures - 1, 60))


def scripted(*outcomes: HilosError | str) -> Callable[[], Awaitable[str]]:
    left = list(outcomes)

    async def attempt() -> str:
        outcome = left.pop(0)
        if isinstance(outcome, HilosError):
            raise outcome
        return outcome

    return attempt


async def test_the_first_failure_is_replayed_and_not_asked_again() -> None:
    slept: list[float] = []

    async def sleep(delay: float) -> None:
        slept.append(delay)

    found = await retry(
        [TransportError("first")],
        scripted(TransportError("second"), "found"),
        exhausted=lambda: False,
        delay=lambda: 0.25,
        sleep=sleep,
        again=is_transient,
    )
    assert found == "found"
    assert slept == [0.25, 0.25]


@pytest.mark.parametrize(
    ("last", "exhausted"), [(TransportError("last"), True), (status(404), False)]
)
async def test_the_last_error_comes_out_as_it_is(last: HilosError, exhausted: bool) -> None:
    async def sleep(delay: float) -> None:
        pass

    attempts = iter([False, exhausted])
    with pytest.raises(HilosError) as caught:
        await retry(
            [TransportError("first")],
            scripted(last),
            exhausted=lambda: next(attempts),
            delay=lambda: 0.0,
            sleep=sleep,
            again=is_transient,
        )
    assert caught.value is last
