"""Replies that say no: redirects, refusals of pace, key and id, and a server's own faults.

Each comes over a real socket. 408 and 5xx are asked again, 429 pauses the session, a redirect is
never followed, and everything else is an error for that id alone; a refused key ends a batch.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import repeat

import anyio
import pytest

from hilos_async import (
    AuthenticationError,
    DeadlineExceededError,
    NotFoundError,
    PermissionDeniedError,
    RateLimit,
    RateLimitError,
    ResponseTooLargeError,
    RetryPolicy,
    ServerError,
    StatusError,
    TransportError,
)
from tests.faults import (
    BAD,
    IDS,
    KEY,
    ONE,
    OTHER,
    expected,
    is_idle,
    session,
    the_error_of_the_bad_one,
)
from tests.raw_server import (
    Action,
    RawServer,
    client_tls,
    close,
    good,
    http_date,
    ids,
    no_task_left,
    reply,
    reset,
    server_tls,
    stall,
    status,
    until,
    when,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_time")]


@pytest.fixture(autouse=True)
async def _tidy() -> AsyncIterator[None]:
    async with no_task_left():
        yield


# --- redirects: never followed, and the key goes nowhere


REDIRECTS = [301, 302, 303, 307, 308]


@pytest.mark.parametrize("header", ["Authorization", "Token"])
@pytest.mark.parametrize("code", REDIRECTS)
@pytest.mark.parametrize("secure", [False, True], ids=["http to http", "https to http"])
async def test_a_redirect_to_another_origin_is_a_status_error_and_nothing_goes_there(
    code: int, secure: bool, header: str
) -> None:
    async with RawServer() as other, RawServer(tls=server_tls() if secure else None) as server:
        server.then = status(code, b"", {"Location": f"{other.url}/flow-execution/{BAD}"})
        async with session(server.url, ssl=client_tls(), auth_header=header) as hilos:
            with pytest.raises(StatusError, match="redirects are not followed") as caught:
                await hilos.get_execution(BAD)
            assert caught.value.status == code
            assert other.origin in str(caught.value)
            assert server.requests[0].header(header) == f"Token {KEY}"
            assert len(server.requests) == 1
            assert other.connections == 0
            assert is_idle(hilos)


SAME_ORIGIN = {
    "path": "/login?next=/",
    "loop": "{server.url}/flow-execution/{id}",
    "loop by path": "/api/flow-execution/{id}",
    "absolute": "{server.origin}/elsewhere",
}


@pytest.mark.parametrize("code", REDIRECTS)
@pytest.mark.parametrize("target", SAME_ORIGIN.values(), ids=SAME_ORIGIN.keys())
async def test_a_redirect_to_the_same_origin_is_a_status_error_for_that_id_alone(
    code: int, target: str
) -> None:
    async with RawServer() as server, session(server.url) as hilos:
        location = target.format(server=server, id=BAD)
        server.script({BAD: repeat(status(code, b"<html>Moved", {"Location": location}))})
        error = await the_error_of_the_bad_one(server, hilos)
        assert type(error) is StatusError
        assert error.status == code
        assert error.headers["location"] == location
        assert error.attempts == 1


@pytest.mark.parametrize("location", [None, "", "http://[", "\xff", "mailto:a@b.example"])
async def test_a_redirect_to_nowhere_is_a_status_error_for_that_id_alone(
    location: str | None,
) -> None:
    moved = status(302, b"", None if location is None else {"Location": location})
    async with RawServer({BAD: repeat(moved)}) as server, session(server.url) as hilos:
        error = await the_error_of_the_bad_one(server, hilos)
        assert type(error) is StatusError
        assert error.status == 302
        assert error.attempts == 1


# --- 429: the session pauses, then goes on


NOW = datetime.now(UTC)
LONG_AGO = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)
DATED = {"Date": http_date(LONG_AGO)}  # a clock that is wrong: only the difference counts


def refusal(
    retry_after: str | None, code: int = 429, headers: Mapping[str, str] | None = None
) -> Action:
    fields = dict(headers or {})
    if retry_after is not None:
        fields["Retry-After"] = retry_after
    return status(code, b'{"detail": "Request was throttled."}', fields)


WAITS = {
    "seconds": ("30", {}),
    "date": (http_date(LONG_AGO + timedelta(seconds=30)), DATED),
    "date in the old RFC 850 form": ("Saturday, 03-Feb-01 04:05:36 GMT", DATED),
    "date in asctime's form": ("Sat Feb  3 04:05:36 2001", DATED),
    "a fraction": ("29.5", {}),
    "30.0": ("30.0", {}),
    "two values": ("5, 30", {}),
    "two fields": ("30\r\nRetry-After: 5", {}),
    "a field with seconds and one with a date": (
        f"5\r\nRetry-After: {http_date(LONG_AGO + timedelta(seconds=30))}",
        DATED,
    ),
    "epoch": (str(int(LONG_AGO.timestamp()) + 30), DATED),
}
NONE_SAID = {
    "none": None,
    "0": "0",
    "negative": "-5",
    "past date": http_date(NOW - timedelta(days=1)),
    "date of the epoch": "Thu, 01 Jan 1970 00:00:00 GMT",
    "1e9": "1e9",
    "empty": "",
    "words": "soon",
    "NaN": "NaN",
    "infinity": "inf",
    "not ASCII": "\xb2",
    "two fractions": "1.5.1",
    "half a date": "Sat, 03 Feb",
    "a date that is none": "Sat, 99 Feb 2001 99:99:99 GMT",
    "long": "x" * 4_000,
}
none_said = pytest.mark.parametrize("retry_after", NONE_SAID.values(), ids=NONE_SAID.keys())
TOO_LONG = {
    "1,000,000,000 seconds": "1000000000",
    "more digits than a float has": "9" * 400,
    "a date of the year 9999": "Fri, 31 Dec 9999 23:59:59 GMT",
}
too_long = pytest.mark.parametrize("retry_after", TOO_LONG.values(), ids=TOO_LONG.keys())
# A short window makes the pause short where the refusal says nothing.
SHORT = RateLimit(1_000, per=0.01)


@pytest.mark.parametrize(("retry_after", "headers"), WAITS.values(), ids=WAITS.keys())
async def test_429_with_a_wait_beyond_the_deadline_is_an_error_at_once_with_the_wait(
    retry_after: str, headers: dict[str, str]
) -> None:
    async with (
        RawServer(then=refusal(retry_after, headers=headers)) as server,
        session(server.url, timeout=5) as hilos,
    ):
        with pytest.raises(DeadlineExceededError) as caught:
            await hilos.get_execution(ONE)
        refused = caught.value.__cause__
        assert isinstance(refused, RateLimitError)
        assert refused.retry_after == 30
        assert refused.detail == "Request was throttled."
        assert caught.value.elapsed < 5
        assert 29 < hilos.stats.paused_for < 31
        with pytest.raises(DeadlineExceededError):
            await hilos.get_execution(OTHER)
        assert server.asked == [ONE]
        assert is_idle(hilos)


@pytest.mark.parametrize(
    ("retry_after", "headers"),
    [("1", {}), (http_date(LONG_AGO + timedelta(seconds=1)), DATED)],
    ids=["seconds", "date"],
)
async def test_429_once_pauses_the_whole_session_and_ends_in_a_result(
    retry_after: str, headers: dict[str, str]
) -> None:
    many = ids(8)
    script = [good, refusal(retry_after, headers=headers)]
    async with RawServer(script) as server, session(server.url, max_concurrency=1) as hilos:
        batch = await hilos.gather_executions(many)
        assert batch.executions == {id: expected(id) for id in many}
        assert hilos.stats.refusals == 1
        assert server.asked == [many[0], many[1], *many[1:]]  # the refused one goes first
        assert server.requests[2].at - server.requests[1].at >= 1
        assert is_idle(hilos)


@none_said
async def test_429_once_with_no_usable_wait_ends_in_a_result(retry_after: str | None) -> None:
    script = {BAD: [refusal(retry_after)]}
    async with RawServer(script) as server, session(server.url, pace=SHORT) as hilos:
        batch = await hilos.gather_executions(IDS)
        assert batch.executions == {id: expected(id) for id in IDS}
        assert server.asked.count(BAD) == 2
        assert is_idle(hilos)


@none_said
async def test_429_always_with_no_usable_wait_is_no_storm_and_ends_with_the_deadline(
    retry_after: str | None,
) -> None:
    async with (
        RawServer(then=refusal(retry_after)) as server,
        session(server.url, pace=SHORT, timeout=0.3) as hilos,
    ):
        with pytest.raises(DeadlineExceededError) as caught:
            await hilos.get_execution(BAD)
        refused = caught.value.__cause__
        assert isinstance(refused, RateLimitError)
        assert not refused.retry_after
        # 10 ms, doubled for each refusal in a row: six fit into the 300.
        assert 2 <= len(server.requests) <= 10
        assert caught.value.attempts == len(server.requests)
        assert is_idle(hilos)


@too_long
async def test_429_with_a_wait_above_max_retry_after_is_a_rate_limit_error_and_no_pause(
    retry_after: str,
) -> None:
    # 100 years: the deadline is not what ends it
    async with (
        RawServer({BAD: repeat(refusal(retry_after))}) as server,
        session(server.url, timeout=3e9) as hilos,
    ):
        error = await the_error_of_the_bad_one(server, hilos)
        assert isinstance(error, RateLimitError)
        assert error.retry_after is not None
        assert error.retry_after >= 1e9
        assert error.attempts == 1
        assert hilos.stats.paused_for == 0


async def test_429s_use_up_no_attempts() -> None:
    script = {BAD: [refusal(None)] * 5}
    once = RetryPolicy(attempts=1)
    async with RawServer(script) as server, session(server.url, pace=SHORT, retry=once) as hilos:
        assert await hilos.get_execution(BAD) == expected(BAD)
        assert server.asked == [BAD] * 6


# --- 5xx and 408


TRANSIENT = {
    408: StatusError,
    425: StatusError,
    500: ServerError,
    502: ServerError,
    503: ServerError,
    504: ServerError,
}
transient = pytest.mark.parametrize(("code", "kind"), TRANSIENT.items(), ids=map(str, TRANSIENT))


@transient
async def test_408_and_5xx_three_times_end_in_a_result(code: int, kind: type[StatusError]) -> None:
    async with RawServer({BAD: [status(code)] * 3}) as server, session(server.url) as hilos:
        batch = await hilos.gather_executions(IDS)
        assert batch.executions == {id: expected(id) for id in IDS}
        assert server.asked.count(BAD) == 4
        assert is_idle(hilos)


@transient
async def test_408_and_5xx_always_are_a_status_error_for_that_id_alone(
    code: int, kind: type[StatusError]
) -> None:
    async with RawServer({BAD: repeat(status(code))}) as server, session(server.url) as hilos:
        error = await the_error_of_the_bad_one(server, hilos)
        assert type(error) is kind
        assert isinstance(error, StatusError)
        assert error.status == code
        assert error.detail == "No."
        assert error.attempts - error.uncounted == 4
        assert error.uncounted <= (3 if code == 503 else 0)


async def test_503_with_retry_after_pauses_the_session_and_uses_up_no_attempt() -> None:
    once = RetryPolicy(attempts=1)
    async with (
        RawServer({BAD: [refusal("1", 503)]}) as server,
        session(server.url, retry=once, max_concurrency=1) as hilos,
    ):
        batch = await hilos.gather_executions(IDS)
        assert batch.executions == {id: expected(id) for id in IDS}
        assert server.asked == [ONE, BAD, BAD, OTHER]
        assert server.requests[2].at - server.requests[1].at >= 1
        assert hilos.stats.refusals == 1
        assert is_idle(hilos)


@none_said
async def test_503_with_no_usable_retry_after_is_an_ordinary_5xx(retry_after: str | None) -> None:
    script = {BAD: repeat(refusal(retry_after, 503))}
    async with (
        RawServer(script) as server,
        session(server.url, pace=SHORT, timeout=1) as hilos,
    ):
        error = await the_error_of_the_bad_one(server, hilos)
        assert isinstance(error, ServerError)
        # Others succeeded before: the first few might have been a limiter's, and are not counted.
        assert error.attempts - error.uncounted == 4
        assert error.uncounted <= 3


@too_long
async def test_503_with_a_wait_above_max_retry_after_is_a_server_error_and_no_pause(
    retry_after: str,
) -> None:
    async with (
        RawServer({BAD: repeat(refusal(retry_after, 503))}) as server,
        session(server.url, timeout=3e9) as hilos,
    ):
        error = await the_error_of_the_bad_one(server, hilos)
        assert isinstance(error, ServerError)
        assert error.retry_after is not None
        assert error.retry_after >= 1e9
        assert hilos.stats.paused_for == 0


# --- 4xx that do not get better


PERMANENT = {
    400: StatusError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: StatusError,
    410: StatusError,
    422: StatusError,
}


@pytest.mark.parametrize(("code", "kind"), PERMANENT.items(), ids=map(str, PERMANENT))
async def test_other_4xx_is_a_status_error_at_once_for_that_id_alone(
    code: int, kind: type[StatusError]
) -> None:
    async with RawServer({BAD: repeat(status(code))}) as server, session(server.url) as hilos:
        error = await the_error_of_the_bad_one(server, hilos)
        assert type(error) is kind
        assert isinstance(error, StatusError)
        assert error.status == code
        assert error.detail == "No."
        assert error.attempts == 1


async def test_a_4xx_without_a_body_that_names_an_encoding_is_its_status_error_all_the_same() -> (
    None
):
    empty = status(404, b"", {"Content-Encoding": "gzip"})
    async with RawServer({BAD: repeat(empty)}) as server, session(server.url) as hilos:
        error = await the_error_of_the_bad_one(server, hilos)
        assert type(error) is NotFoundError
        assert error.attempts == 1


# --- 401: the key is wrong for all


# --- a status whose body cannot be read is still that status


GZIP = {"Content-Encoding": "gzip"}
UNREADABLE: dict[str, Callable[[int, Mapping[str, str]], Action]] = {
    "cut short": lambda code, fields: close(reply(code, b'{"det', fields, length=400)),
    "reset in its body": lambda code, fields: reset(reply(code, b'{"det', fields, length=400)),
    "no chunk of it": lambda code, fields: close(
        reply(code, b"", {"Transfer-Encoding": "chunked", **fields}).replace(
            b"Content-Length: 0\r\n", b""
        )
    ),
    "corrupt gzip": lambda code, fields: status(code, b"no gzip", {**GZIP, **fields}),
    "half of its gzip": lambda code, fields: status(
        code, gzip.compress(b"{}" * 99)[:-9], {**GZIP, **fields}
    ),
    "br": lambda code, fields: status(code, b"\x0b", {"Content-Encoding": "br", **fields}),
    "too large": lambda code, fields: status(code, b" " * 40_000, fields),
    "never ending": lambda code, fields: stall(reply(code, b'{"det', fields, length=400)),
}
unreadable = pytest.mark.parametrize("make", UNREADABLE.values(), ids=UNREADABLE.keys())
Make = Callable[[int, Mapping[str, str]], Action]
QUICKLY = {"max_response_bytes": 30_000, "attempt_timeout": 1.0}


@unreadable
@pytest.mark.parametrize(
    ("code", "kind", "times"),
    [
        (307, StatusError, 1),
        (401, AuthenticationError, 1),
        (403, PermissionDeniedError, 1),
        (404, NotFoundError, 1),
        (410, StatusError, 1),
        (500, ServerError, 2),
        (503, ServerError, 2),
    ],
)
async def test_a_status_with_a_body_that_cannot_be_read_is_that_status(
    make: Make, code: int, kind: type[StatusError], times: int
) -> None:
    twice = RetryPolicy(attempts=2, max_backoff=0.01)
    async with (
        RawServer(then=make(code, {})) as server,
        session(server.url, retry=twice, **QUICKLY) as hilos,
    ):
        with pytest.raises(kind) as caught:
            await hilos.get_execution(BAD)
        assert caught.value.status == code
        assert caught.value.attempts == len(server.requests) == times
        server.then = good
        assert await hilos.get_execution(ONE) == expected(ONE)  # nothing of it is left behind
        assert is_idle(hilos)


@unreadable
@pytest.mark.parametrize("code", [429, 503])
async def test_a_wait_that_stands_above_a_body_that_cannot_be_read_is_obeyed(
    make: Make, code: int
) -> None:
    async with (
        RawServer([make(code, {"Retry-After": "1"})]) as server,
        session(server.url, retry=RetryPolicy(attempts=1), **QUICKLY) as hilos,
    ):
        assert await hilos.get_execution(BAD) == expected(BAD)
        assert hilos.stats.refusals == 1
        assert server.requests[1].at - server.requests[0].at >= 1


@unreadable
async def test_a_success_whose_body_cannot_be_read_is_no_answer(make: Make) -> None:
    async with (
        RawServer(then=make(200, {})) as server,
        session(server.url, retry=RetryPolicy(attempts=1), **QUICKLY) as hilos,
    ):
        with pytest.raises((TransportError, ResponseTooLargeError)):
            await hilos.get_execution(BAD)
        assert len(server.requests) == 1


async def test_401_at_once_is_an_authentication_error_after_one_request() -> None:
    async with (
        RawServer(then=status(401, b'{"detail": "Invalid token."}')) as server,
        session(server.url) as hilos,
    ):
        with pytest.raises(AuthenticationError) as caught:
            await hilos.get_execution(ONE)
        assert caught.value.detail == "Invalid token."
        assert caught.value.batch is None
        assert len(server.requests) == 1
        assert is_idle(hilos)


async def test_401_at_once_ends_a_batch_of_a_hundred() -> None:
    async with RawServer(then=status(401)) as server, session(server.url) as hilos:
        with pytest.raises(AuthenticationError) as caught:
            await hilos.gather_executions(ids(100), max_concurrency=1)
        assert caught.value.batch is not None
        assert len(caught.value.batch) == 0
        assert len(server.requests) == 1
        assert is_idle(hilos)


async def test_401_mid_batch_stops_asking_and_what_was_fetched_is_on_the_error() -> None:
    many = ids(10)
    script = {many[1]: [status(404)], many[4]: [status(401)]}
    async with RawServer(script) as server, session(server.url) as hilos:
        with pytest.raises(AuthenticationError) as caught:
            await hilos.gather_executions(many, max_concurrency=1)
        assert server.asked == many[:5]
        batch = caught.value.batch
        assert batch is not None
        assert list(batch.results) == [many[0], many[2], many[3]]
        assert list(batch.errors) == [many[1]]
        assert caught.value.execution_id == many[4]
        assert is_idle(hilos)
        assert await hilos.get_execution(ONE) == expected(ONE)


async def test_401_mid_batch_lets_those_under_way_finish_and_sends_nothing_more() -> None:
    many = ids(20)
    refused = anyio.Event()
    script = {many[1]: [status(401)], **{id: [when(refused, good)] for id in many[2:4]}}
    async with RawServer(script) as server, session(server.url) as hilos:
        task = asyncio.create_task(hilos.gather_executions(many[1:], max_concurrency=3))
        await until(lambda: len(server.requests) == 3 and hilos.stats.in_flight == 2)
        refused.set()
        with pytest.raises(AuthenticationError) as caught:
            await task
        assert server.asked == many[1:4]
        assert caught.value.batch is not None
        assert list(caught.value.batch.results) == many[2:4]
        assert is_idle(hilos)


async def test_401_mid_batch_reaches_those_that_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: high)  # it backs off for 0.5 s
    failed = anyio.Event()
    script = {ONE: repeat(status(500)), BAD: [when(failed, status(401))]}
    patient = RetryPolicy()
    async with RawServer(script) as server, session(server.url, retry=patient) as hilos:
        task = asyncio.create_task(hilos.gather_executions([ONE, BAD]))
        await until(lambda: hilos.stats.in_flight == hilos.stats.waiting == 1)
        failed.set()
        began = time.monotonic()
        with pytest.raises(AuthenticationError) as caught:
            await task
        assert time.monotonic() - began < 0.4, "it waited for the back-off"
        assert caught.value.execution_id == BAD
        assert sorted(server.asked) == [ONE, BAD]
        assert is_idle(hilos)
