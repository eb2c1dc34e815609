"""run_flow: whatever goes wrong, a campaign is started at most once, and the error says if it may be.

The raw server counts whole requests that arrived: each of them could have started a campaign. The fake
counts the campaigns that it has started.
"""

from __future__ import annotations

import asyncio
import copy
import gzip
import json
import logging
import pickle
import socket
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import aiohttp
import anyio
import pytest

from hilos_async import (
    AttemptTimeoutError,
    AuthenticationError,
    DeadlineExceededError,
    DecodeError,
    HilosError,
    HilosSession,
    InvalidIdError,
    NewContact,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RateLimit,
    RateLimitError,
    ResponseTooLargeError,
    ServerError,
    SessionClosedError,
    StatusError,
    TransportError,
)
from hilos_async.testing import FakeHilos, FakeLimit, Fault
from tests.faults import session
from tests.raw_server import (
    Action,
    RawServer,
    chunk,
    client_tls,
    close,
    close_connection,
    deaf_listener,
    endless,
    half_close,
    hang,
    no_task_left,
    port_of,
    reply,
    reset,
    reset_connection,
    send,
    server_tls,
    speak_plainly,
    stall,
    status,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.raw_server import ConnectionFault

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_time")]

FLOW = UUID("c0ffee00-0000-4000-8000-000000000001")
CONTACTS = [NewContact(phone="+5215512345678", first_name="María", meta={"plan": "oro"})]
PEOPLE = ("5512345678", "María", "oro")
BRIEF = json.dumps({"id": str(UUID(int=9)), "status": "PROCESSING", "execute_for": "LIST"}).encode()
GOOD = send(reply(201, BRIEF))
JSON = "Content-Type: application/json\r\n"
CHUNKED = f"HTTP/1.1 201 Created\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n".encode()
PLAIN = f"HTTP/1.1 201 Created\r\n{JSON}".encode()
GZIPPED = PLAIN + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
PACKED = gzip.compress(BRIEF)


@pytest.fixture(autouse=True)
async def _tidy() -> AsyncIterator[None]:
    async with no_task_left():
        yield


def says_so(error: OutcomeUnknownError) -> None:
    """It names the flow and the moment, how to find out, and nobody of whom the campaign is for."""
    assert error.flow_id == FLOW
    assert timedelta() <= datetime.now(UTC) - error.sent_at < timedelta(minutes=2)
    for words in (
        str(FLOW),
        "may have started",
        "list_executions(flow=",
        error.sent_at.isoformat()[:16],
    ):
        assert words in str(error)
    for text in (str(error), repr(error), str(error.__cause__)):
        assert not [name for name in PEOPLE if name in text]
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (twin.flow_id, twin.sent_at, str(twin)) == (FLOW, error.sent_at, str(error))
        assert type(twin.__cause__) is type(error.__cause__)


# --- the request may have arrived: it is not sent again, and nobody knows what became of it

UNKNOWN: dict[str, tuple[Action, type[HilosError]]] = {
    "reset before a byte": (reset(), TransportError),
    "reset in the headers": (reset(b"HTTP/1.1 201 Cre"), TransportError),
    "reset after the headers": (reset(PLAIN + b"Content-Length: 99\r\n\r\n{"), TransportError),
    "closed before a byte": (close(), TransportError),
    "half-closed": (half_close(), TransportError),
    "no reply in time": (hang, AttemptTimeoutError),
    "headers and no more": (stall(PLAIN + b"Content-Length: 99\r\n\r\n"), AttemptTimeoutError),
    "slow drip": (
        endless(PLAIN + b"Content-Length: 9999\r\n\r\n{", b" ", pause=0.01),
        AttemptTimeoutError,
    ),
    "truncated with Content-Length": (
        close(reply(201, BRIEF[:-9], length=len(BRIEF))),
        TransportError,
    ),
    "truncated chunked": (close(CHUNKED + chunk(BRIEF[:-9])), TransportError),
    "corrupt gzip": (send(GZIPPED % len(PACKED) + PACKED[:-8] + bytes(8)), TransportError),
    "gzip bomb": (
        send(GZIPPED % len(gzip.compress(bytes(9_000_000))) + gzip.compress(bytes(9_000_000))),
        ResponseTooLargeError,
    ),
    "endless body": (endless(CHUNKED, chunk(b" " * 60_000)), ResponseTooLargeError),
    "endless headers": (endless(PLAIN, b"X-More: yes\r\n"), TransportError),
    "1xx storm": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", pause=0.001), AttemptTimeoutError),
    "header too large": (close(reply(201, BRIEF, {"X-Large": "a" * 70_000})), TransportError),
    "two Content-Lengths": (
        close(PLAIN + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n[1,2,3]"),
        TransportError,
    ),
    "garbage status line": (close(b"\x16\x03\x01 what? \r\n\r\n"), TransportError),
    "204": (send(b"HTTP/1.1 204 No Content\r\n\r\n"), DecodeError),
    "empty": (send(reply(201)), DecodeError),
    "truncated JSON": (send(reply(201, BRIEF[:-9])), DecodeError),
    "200,000 nested brackets": (send(reply(201, b"[" * 200_000)), DecodeError),
    "NaN": (send(reply(201, BRIEF[:-1] + b', "completed": NaN}')), DecodeError),
    "HTML": (send(reply(201, b"<html>", {"Content-Type": "text/html"})), DecodeError),
    "bad UTF-8": (send(reply(201, b'{"status": "\xff"}')), DecodeError),
    "no id": (send(reply(201, b'{"status": "READY", "execute_for": "LIST"}')), DecodeError),
    "redirect": (status(302, headers={"Location": "/api/other"}), StatusError),
    "redirect elsewhere": (
        status(307, headers={"Location": "https://elsewhere.example"}),
        StatusError,
    ),
    "408": (status(408), StatusError),
    "500": (status(500), ServerError),
    "502 with HTML": (status(502, b"<html>"), ServerError),
    "503": (status(503), ServerError),
    "503 with Retry-After": (status(503, headers={"Retry-After": "1"}), ServerError),
    "504": (status(504), ServerError),
}


@pytest.mark.parametrize("name", UNKNOWN)
async def test_what_went_wrong_after_sending_is_sent_once_and_said_to_be_unknown(name: str) -> None:
    action, cause = UNKNOWN[name]
    server = RawServer([action], then=GOOD)
    async with server, session(server.url, attempt_timeout=0.4) as hilos:
        with pytest.raises(OutcomeUnknownError) as caught, anyio.fail_after(30):
            await hilos.run_flow(FLOW, CONTACTS)
        says_so(caught.value)
        assert isinstance(caught.value.__cause__, cause)
        assert caught.value.attempts == 1
        [request] = server.requests
        assert request.head.startswith(b"POST /api/flow/%s/run HTTP/1.1\r\n" % str(FLOW).encode())
        assert json.loads(request.body)["contact_list"][0]["phone"] == CONTACTS[0].phone


# --- the API has said no: nothing has started, and the error is the plain one

REFUSED: dict[str, tuple[Action, type[HilosError]]] = {
    "400": (status(400, b'{"contact_list": [{"phone": ["Wrong."]}]}'), StatusError),
    "401": (status(401), AuthenticationError),
    "403": (status(403), PermissionDeniedError),
    "404": (status(404), NotFoundError),
    "410": (status(410), StatusError),
    "413": (status(413, b"<html>"), StatusError),
    "425": (status(425), StatusError),
    "429": (status(429), RateLimitError),
    **{
        f"429 with Retry-After: {told}": (
            status(429, headers={"Retry-After": told}),
            RateLimitError,
        )
        for told in ("0", "-1", "soon", "1e9", "Wed, 21 Oct 2015 07:28:00 GMT")
    },
    "a 400 whose body is cut short": (close(reply(400, b'{"x', length=99)), StatusError),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refusal_has_started_nothing_and_is_not_asked_again(name: str) -> None:
    action, kind = REFUSED[name]
    server = RawServer([action], then=GOOD)
    async with server, session(server.url) as hilos:
        with pytest.raises(kind, match=rf"POST flow/{FLOW}/run got 4") as caught:
            await hilos.run_flow(FLOW, CONTACTS)
        assert not isinstance(caught.value, OutcomeUnknownError)
        assert caught.value.attempts == 1
        assert not [name for name in PEOPLE if name in str(caught.value)]
        assert len(server.requests) == 1


# --- no byte of it has left: it is tried again


@pytest.mark.parametrize("fault", [reset_connection, close_connection, speak_plainly])
async def test_a_tls_handshake_that_fails_is_tried_again(fault: ConnectionFault) -> None:
    server = RawServer(then=GOOD, faults=[fault], tls=server_tls())
    async with server, session(server.url, ssl=client_tls()) as hilos:
        assert (await hilos.run_flow(FLOW, CONTACTS)).id == UUID(int=9)
        assert (len(server.requests), server.connections) == (1, 2)


async def test_a_refused_connection_is_tried_again_and_comes_out_plain() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with session(f"http://127.0.0.1:{port_of(taken)}/api") as hilos:
            with pytest.raises(TransportError) as caught:
                await hilos.run_flow(FLOW, CONTACTS)
            assert caught.value.attempts == 4


async def test_a_connect_that_takes_too_long_comes_out_plain() -> None:
    with deaf_listener() as listener:
        url = f"http://127.0.0.1:{port_of(listener)}/api"
        async with session(url, attempt_timeout=0.05) as hilos:
            with pytest.raises(AttemptTimeoutError) as caught:
                await hilos.run_flow(FLOW, CONTACTS)
            assert caught.value.attempts == 4
        async with session(url, timeout=0.05) as hilos:
            with pytest.raises(DeadlineExceededError):
                await hilos.run_flow(FLOW, CONTACTS)


async def test_an_unknown_host_and_a_bad_certificate_come_out_plain() -> None:
    async with session("https://no-such-host.invalid/api", attempt_timeout=10) as hilos:
        with pytest.raises(TransportError):
            await hilos.run_flow(FLOW, CONTACTS)
    server = RawServer(then=GOOD, tls=server_tls())
    async with server, session(server.url) as hilos:
        with pytest.raises(TransportError, match="certificate"):
            await hilos.run_flow(FLOW, CONTACTS)
        assert server.requests == []


async def test_it_takes_no_kept_connection_that_may_be_closed_already() -> None:
    server = RawServer([GOOD, GOOD], then=GOOD)
    async with server, session(server.url) as hilos:
        await hilos.run_flow(FLOW, CONTACTS)
        await hilos.run_flow(FLOW, CONTACTS)
        assert [request.connection for request in server.requests] == [1, 2]


async def test_on_a_given_session_a_closed_kept_connection_is_not_asked_again() -> None:
    server = RawServer([close(reply(201, BRIEF)), reset()], then=GOOD)
    async with server, aiohttp.ClientSession() as given:
        async with session(server.url, session=given) as hilos:
            await hilos.run_flow(FLOW, CONTACTS)
            with pytest.raises(OutcomeUnknownError):
                await hilos.run_flow(FLOW, CONTACTS)
            # The server may have seen it or not; it was not sent once more, which would be good.
            assert len(server.requests) <= 2


# --- deadlines, cancellation, closing


async def test_a_deadline_in_the_middle_is_unknown_and_one_before_is_not() -> None:
    server = RawServer([hang], then=GOOD)
    async with server, session(server.url, pace=RateLimit(1, per=60)) as hilos:
        with pytest.raises(OutcomeUnknownError) as caught:
            await hilos.with_options(timeout=0.3).run_flow(FLOW, CONTACTS)
        assert isinstance(caught.value.__cause__, DeadlineExceededError)
        with pytest.raises(DeadlineExceededError):
            await hilos.run_flow(FLOW, CONTACTS)
        assert len(server.requests) == 1


@pytest.mark.parametrize("how", ["cancel", "timeout", "scope"])
async def test_a_cancellation_goes_through_and_leaves_one_warning(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = RawServer([hang], then=GOOD)
    async with server, session(server.url) as hilos:
        if how == "cancel":
            task = asyncio.create_task(hilos.run_flow(FLOW, CONTACTS))
            await until(lambda: server.in_flight == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        elif how == "timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await hilos.run_flow(FLOW, CONTACTS)
        else:
            with anyio.move_on_after(0.2) as scope:
                await hilos.run_flow(FLOW, CONTACTS)
            assert scope.cancelled_caught
    [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (record.hilos_event, record.hilos_flow_id) == ("run_abandoned", str(FLOW))  # type: ignore[attr-defined]  # ours
    assert "may have started" in record.getMessage()
    assert not [name for name in PEOPLE if name in record.getMessage()]
    assert len(server.requests) == 1


async def test_a_cancellation_before_sending_leaves_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = RawServer(then=GOOD)
    async with server, session(server.url, pace=RateLimit(1, per=10)) as hilos:
        await hilos.run_flow(FLOW, CONTACTS)
        task = asyncio.create_task(hilos.run_flow(FLOW, CONTACTS))
        await until(lambda: hilos.stats.waiting == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(server.requests) == 1


async def test_a_session_closed_in_the_middle_is_unknown_and_one_closed_before_is_not() -> None:
    server = RawServer([hang], then=GOOD)
    async with server:
        hilos = session(server.url)
        task = asyncio.create_task(hilos.run_flow(FLOW, CONTACTS))
        await until(lambda: server.in_flight == 1)
        await hilos.aclose()
        with pytest.raises(OutcomeUnknownError) as caught:
            await task
        assert isinstance(caught.value.__cause__, SessionClosedError)
        with pytest.raises(SessionClosedError):
            await hilos.run_flow(FLOW, CONTACTS)
        assert len(server.requests) == 1


# --- the fake counts what has started

FAULTS: dict[str, Fault | None] = {
    "none": None,
    **{str(code): Fault.status(code) for code in (400, 401, 403, 404, 408, 409, 429)},
    **{str(code): Fault.status(code) for code in (500, 502, 503, 504)},
    "reset before": Fault.reset(),
    "reset in the headers": Fault.reset("headers"),
    "reset in the body": Fault.reset("body"),
    "truncated": Fault.truncate(),
    "truncated chunked": Fault.truncate(chunked=True),
    "HTML": Fault.body(b"<html>", content_type="text/html"),
    "raw": Fault.raw(b"SSH-2.0\r\n\r\n"),
}


@pytest.mark.parametrize("native", [False, True], ids=["activecampaign", "native"])
@pytest.mark.parametrize("name", FAULTS)
async def test_at_most_one_campaign_is_started_and_the_error_is_right_about_it(
    name: str, native: bool
) -> None:
    fault = FAULTS[name]
    async with FakeHilos(native=native, faults=[fault] if fault else []) as fake:
        async with fake.session(pace="off") as hilos:
            known = True
            try:
                brief = await hilos.run_flow(fake.flows[0], CONTACTS, has_priority=True)
            except OutcomeUnknownError as error:
                known = False
                fake.faults.clear()
                since = [
                    row
                    async for row in hilos.list_executions(flow=error.flow_id)
                    if not row.is_terminal
                ]
                assert since[0].num_contacts == 1  # the way to find out that it says
            except HilosError:
                assert fake.runs_created == 0
            else:
                assert (await hilos.get_execution(brief.id)).num_contacts == 1
                assert (brief.has_priority, brief.contact_list[0].phone) == (
                    True,
                    CONTACTS[0].phone,
                )
                assert fake.runs_created == 1
            assert fake.runs_created <= 1
            assert known or fake.runs_created == 1
            assert fake.violations == []


async def test_a_refusal_of_the_limit_pauses_the_session_and_is_the_callers_to_repeat() -> None:
    limit = FakeLimit(1, per=60, retry_after=0.05)
    async with FakeHilos(limit=limit) as fake, fake.session(pace="learn") as hilos:
        await hilos.get_execution(UUID(int=1))
        with pytest.raises(RateLimitError):
            await hilos.run_flow(fake.flows[0], CONTACTS)
        assert hilos.stats.refusals == 1
        assert (fake.runs_created, fake.refused) == (0, 1)


async def test_it_goes_before_the_lookups_of_a_batch() -> None:
    ids = [UUID(int=number) for number in range(200)]
    async with (
        FakeHilos(latency=0.01) as fake,
        fake.session(pace="off", max_concurrency=4) as hilos,
    ):
        batch = asyncio.create_task(hilos.gather_executions(ids))
        await until(lambda: fake.requests >= 8)
        await hilos.run_flow(fake.flows[0], CONTACTS)
        assert fake.requests < 50
        await batch


@pytest.mark.parametrize(
    ("flow", "contacts", "error"),
    [
        ("x", CONTACTS, InvalidIdError),
        (FLOW, [], ValueError),
        (FLOW, CONTACTS * 2, ValueError),
        (FLOW, CONTACTS[0], TypeError),
        (FLOW, [{"phone": "+5215512345678"}], TypeError),
    ],
)
async def test_bad_input_is_refused_before_any_request(
    flow: UUID | str, contacts: Any, error: type[Exception]
) -> None:
    async with FakeHilos() as fake, fake.session() as hilos:
        with pytest.raises(error) as caught:
            await hilos.run_flow(flow, contacts)
        if error is InvalidIdError:
            assert "no flow id" in str(caught.value)
        with pytest.raises(TypeError, match="has_priority"):
            await hilos.run_flow(FLOW, CONTACTS, has_priority=1)  # type: ignore[arg-type]  # wrong on purpose
        assert fake.requests == 0


async def test_a_thousand_contacts_of_a_generator_are_one_run() -> None:
    async with FakeHilos() as fake, fake.session() as hilos:
        made = await hilos.run_flow(
            fake.flows[0], (NewContact(phone=f"+52155{number:08}") for number in range(1_000))
        )
        assert made.num_contacts == 1_000
        assert await hilos.list_execution_contacts(execution=made.id).count() == 1_000
        assert isinstance(hilos, HilosSession)
