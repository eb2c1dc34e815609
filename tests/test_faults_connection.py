"""Faults between the two machines: names, TCP, TLS, and connections that go away.

Each fault is made by a real socket. What passes ends in a result; what stays ends in a
``TransportError`` for that id alone.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import repeat
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from hilos_async import (
    AttemptTimeoutError,
    RetryPolicy,
    SessionClosedError,
    TransportError,
)
from tests.faults import BAD, IDS, ONE, OTHER, expected, is_idle, session
from tests.raw_server import (
    Action,
    ConnectionFault,
    RawServer,
    bound,
    client_tls,
    close,
    close_connection,
    deaf_listener,
    document,
    good,
    half_close,
    hang,
    ids,
    no_task_left,
    port_of,
    reply,
    reset,
    reset_connection,
    server_tls,
    speak_plainly,
    until,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_time")]

WHOLE = reply(200, document(BAD))
HEADERS = WHOLE.index(b"\r\n\r\n") + 4


@pytest.fixture(autouse=True)
async def _tidy() -> AsyncIterator[None]:
    async with no_task_left():
        yield


# --- connections that end too early


CUT_OFF = {
    "reset before the headers": reset(),
    "reset in the status line": reset(WHOLE[:7]),
    "reset in the headers": reset(WHOLE[: HEADERS // 2]),
    "reset after the headers": reset(WHOLE[:HEADERS]),
    "reset in the body": reset(WHOLE[:-40]),
    "closed before the headers": close(),
    "closed in the headers": close(WHOLE[: HEADERS // 2]),
    "closed after the headers": close(WHOLE[:HEADERS]),
    "half-closed before the headers": half_close(),
    "half-closed in the headers": half_close(WHOLE[: HEADERS // 2]),
    "half-closed in the body": half_close(WHOLE[:-40]),
}
cut_off = pytest.mark.parametrize("fault", CUT_OFF.values(), ids=CUT_OFF.keys())


@cut_off
async def test_a_connection_cut_off_once_ends_in_a_result(fault: Action) -> None:
    async with RawServer({BAD: [fault]}) as server, session(server.url) as hilos:
        batch = await hilos.gather_executions(IDS)
        assert batch.executions == {id: expected(id) for id in IDS}
        assert not batch.errors
        assert hilos.stats.retries == 1
        assert server.asked.count(BAD) == 2
        assert is_idle(hilos)


@cut_off
async def test_a_connection_always_cut_off_is_a_transport_error_for_that_id_alone(
    fault: Action,
) -> None:
    async with RawServer({BAD: repeat(fault)}) as server, session(server.url) as hilos:
        batch = await hilos.gather_executions(IDS)
        assert batch.executions == {id: expected(id) for id in (ONE, OTHER)}
        error = batch.errors.pop(BAD)
        assert not batch.errors
        assert type(error) is TransportError
        assert error.transient
        assert error.attempts in (4, 5)  # one more where a connection had been kept
        assert error.__cause__ is not None
        assert server.asked.count(BAD) == error.attempts
        assert is_idle(hilos)
        assert await hilos.get_execution(ONE) == expected(ONE)


async def test_a_half_close_after_a_whole_reply_ends_in_a_result() -> None:
    whole = reply(200, document(ONE))
    async with RawServer([half_close(whole)]) as server, session(server.url) as hilos:
        assert await hilos.get_execution(ONE) == expected(ONE)
        assert hilos.stats.requests == 1
        assert await hilos.get_execution(ONE) == expected(ONE)
        assert server.connections == 2


async def test_a_body_that_ends_with_the_connection_ends_in_a_result() -> None:
    old = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + document(ONE)
    async with RawServer([half_close(old)]) as server, session(server.url) as hilos:
        assert await hilos.get_execution(ONE) == expected(ONE)
        assert hilos.stats.requests == 1


@pytest.mark.parametrize("fault", [close(), reset()], ids=["closed", "reset"])
async def test_keep_alive_race_a_kept_connection_that_the_server_drops_ends_in_a_result(
    fault: Action,
) -> None:
    async with RawServer([good, fault]) as server, session(server.url) as hilos:
        assert await hilos.get_execution(ONE) == expected(ONE)
        assert await hilos.get_execution(OTHER) == expected(OTHER)
        assert [request.connection for request in server.requests] == [1, 1, 2]


async def test_keep_alive_race_a_server_that_closes_after_each_reply_costs_no_lookup() -> None:
    whole = [close(reply(200, document(id))) for id in ids(50)]
    async with RawServer(whole) as server, session(server.url) as hilos:
        for id in ids(50):
            assert await hilos.get_execution(id) == expected(id)
        assert is_idle(hilos)


# --- connections that do not come about


async def test_refused_always_is_a_transport_error_after_the_attempts() -> None:
    with bound() as sock:
        async with session(f"http://127.0.0.1:{port_of(sock)}") as hilos:
            batch = await hilos.gather_executions(IDS)
            assert not batch.executions
            for error in batch.errors.values():
                assert type(error) is TransportError
                assert error.transient
                assert error.attempts == 4
                assert isinstance(error.__cause__, aiohttp.ClientConnectorError)
                assert f"127.0.0.1:{port_of(sock)}" in str(error)
            assert is_idle(hilos)


async def test_refused_until_the_server_is_up_ends_in_a_result() -> None:
    sock = bound()
    patient = RetryPolicy(attempts=1_000, max_backoff=0.01)
    async with session(f"http://127.0.0.1:{port_of(sock)}/api", retry=patient) as hilos:
        lookup = asyncio.create_task(hilos.get_execution(ONE))
        await until(lambda: hilos.stats.requests >= 3)
        async with RawServer(sock=sock) as server:
            assert await lookup == expected(ONE)
            assert len(server.requests) == 1
            assert is_idle(hilos)
            await hilos.aclose()


linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="other systems refuse when a listener's queue is full"
)


@linux_only
async def test_connect_timeout_always_is_an_attempt_timeout_error() -> None:
    quick = RetryPolicy(attempts=2, max_backoff=0.01)
    with deaf_listener() as listener:
        url = f"http://127.0.0.1:{port_of(listener)}/api"
        async with session(url, retry=quick, attempt_timeout=0.1) as hilos:
            with pytest.raises(AttemptTimeoutError) as caught:
                await hilos.get_execution(ONE)
            assert caught.value.attempts == 2
            assert is_idle(hilos)


@linux_only
async def test_connect_timeout_that_passes_ends_in_a_result() -> None:
    patient = RetryPolicy(attempts=1_000, max_backoff=0.01)
    with deaf_listener() as listener:
        url = f"http://127.0.0.1:{port_of(listener)}/api"
        async with session(url, retry=patient, attempt_timeout=0.1) as hilos:
            lookup = asyncio.create_task(hilos.get_execution(ONE))
            await until(lambda: hilos.stats.requests >= 2)
            async with RawServer(sock=listener) as server:
                assert await lookup == expected(ONE)
                assert len(server.requests) == 1
                assert is_idle(hilos)
                await hilos.aclose()


# --- names


class Resolver(AbstractResolver):
    """Fails as often as there are errors, then finds loopback."""

    def __init__(self, *errors: OSError) -> None:
        self.errors = list(errors)
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        if self.errors:
            raise self.errors.pop(0)
        return [
            ResolveResult(
                hostname=host,
                host="127.0.0.1",
                port=port,
                family=socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        pass


def c_ares(code: int, words: str) -> OSError:
    """The error of aiohttp's other resolver, for which c-ares has codes of its own."""
    error = OSError(None, words)
    error.__cause__ = Exception(code, words)
    return error


UNKNOWN = {
    "EAI_NONAME": socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
    "EAI_FAIL": socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure in name resolution"),
    "c-ares ENODATA": c_ares(1, "DNS server returned answer with no data"),
    "c-ares ENOTFOUND": c_ares(4, "Domain name not found"),
}
TEMPORARY = {
    "EAI_AGAIN": socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
    "c-ares ETIMEOUT": c_ares(12, "Timeout while contacting DNS servers"),
}


@pytest.mark.parametrize("failure", UNKNOWN.values(), ids=UNKNOWN.keys())
async def test_dns_unknown_host_is_a_transport_error_at_once_that_names_the_host(
    failure: OSError,
) -> None:
    resolver = Resolver(*[failure] * 9)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=resolver)) as given,
        session("https://hilos.invalid/api", session=given) as hilos,
    ):
        with pytest.raises(TransportError, match=r"hilos\.invalid is unknown: check") as caught:
            await hilos.get_execution(ONE)
        assert not caught.value.transient
        assert caught.value.attempts == 1
        assert resolver.asked == ["hilos.invalid"]
        assert is_idle(hilos)


@pytest.mark.parametrize("failure", TEMPORARY.values(), ids=TEMPORARY.keys())
async def test_dns_temporary_failure_ends_in_a_result(failure: OSError) -> None:
    resolver = Resolver(failure, failure)
    async with (
        RawServer() as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=resolver)) as given,
        session(server.url.replace("127.0.0.1", "hilos.localhost"), session=given) as hilos,
    ):
        assert await hilos.get_execution(ONE) == expected(ONE)
        assert len(resolver.asked) == 3
        assert len(server.requests) == 1


@pytest.mark.parametrize("failure", TEMPORARY.values(), ids=TEMPORARY.keys())
async def test_dns_temporary_failure_that_stays_is_a_transport_error_after_the_attempts(
    failure: OSError,
) -> None:
    resolver = Resolver(*[failure] * 9)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=resolver)) as given,
        session("https://hilos.invalid/api", session=given) as hilos,
    ):
        with pytest.raises(TransportError, match=r"hilos\.invalid") as caught:
            await hilos.get_execution(ONE)
        assert caught.value.transient
        assert caught.value.attempts == len(resolver.asked) == 4
        assert is_idle(hilos)


async def test_dns_unknown_host_with_our_own_aiohttp_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class NoSuchName(AbstractResolver):
        async def resolve(self, *args: object, **kwargs: object) -> list[ResolveResult]:
            raise UNKNOWN["EAI_NONAME"]

        async def close(self) -> None:
            pass

    monkeypatch.setattr("aiohttp.connector.DefaultResolver", lambda *_, **__: NoSuchName())
    async with session("https://hilos.invalid/api") as hilos:
        batch = await hilos.gather_executions(IDS)
        assert [type(error) for error in batch.errors.values()] == [TransportError] * 3
        assert hilos.stats.requests == 3
        assert is_idle(hilos)


# --- TLS


YESTERYEAR = datetime(2020, 1, 1, tzinfo=UTC)
BAD_CERTIFICATES = {
    "unknown authority": ("127.0.0.1", None, None),
    "another host's": ("other.example", None, client_tls),
    "expired": ("127.0.0.1", YESTERYEAR, client_tls),
}


@pytest.mark.parametrize(
    ("name", "not_after", "trust"), BAD_CERTIFICATES.values(), ids=BAD_CERTIFICATES.keys()
)
async def test_tls_bad_certificate_is_a_transport_error_at_once_that_names_the_host(
    name: str, not_after: datetime | None, trust: Any
) -> None:
    async with (
        RawServer(tls=server_tls(name, not_after=not_after)) as server,
        session(server.url, ssl=trust and trust()) as hilos,
    ):
        with pytest.raises(TransportError, match=r"certificate of 127\.0\.0\.1") as caught:
            await hilos.get_execution(ONE)
        assert not caught.value.transient
        assert caught.value.attempts == 1
        assert server.connections == 1
        assert not server.requests  # the key was not sent
        assert is_idle(hilos)


HANDSHAKES: dict[str, ConnectionFault] = {
    "reset": reset_connection,
    "closed": close_connection,
    "plain HTTP": speak_plainly,
}
handshakes = pytest.mark.parametrize("fault", HANDSHAKES.values(), ids=HANDSHAKES.keys())


@handshakes
async def test_tls_handshake_broken_off_once_ends_in_a_result(fault: ConnectionFault) -> None:
    async with (
        RawServer(tls=server_tls(), faults=[fault]) as server,
        session(server.url, ssl=client_tls()) as hilos,
    ):
        assert await hilos.get_execution(ONE) == expected(ONE)
        assert server.connections == 2
        assert len(server.requests) == 1


@handshakes
async def test_tls_handshake_always_broken_off_is_a_transport_error_after_the_attempts(
    fault: ConnectionFault,
) -> None:
    async with (
        RawServer(tls=server_tls(), faults=repeat(fault)) as server,
        session(server.url, ssl=client_tls()) as hilos,
    ):
        with pytest.raises(TransportError) as caught:
            await hilos.get_execution(ONE)
        assert caught.value.transient
        assert caught.value.attempts == server.connections == 4
        assert not server.requests
        assert is_idle(hilos)


# TLS has no half-close.
TLS_CUT_OFF = {name: fault for name, fault in CUT_OFF.items() if not name.startswith("half")}


@pytest.mark.parametrize("fault", TLS_CUT_OFF.values(), ids=TLS_CUT_OFF.keys())
async def test_tls_connection_cut_off_once_ends_in_a_result(fault: Action) -> None:
    async with (
        RawServer({BAD: [fault]}, tls=server_tls()) as server,
        session(server.url, ssl=client_tls()) as hilos,
    ):
        batch = await hilos.gather_executions(IDS)
        assert batch.executions == {id: expected(id) for id in IDS}
        assert hilos.stats.retries == 1


# --- an aiohttp session of the caller's


async def test_a_given_session_that_is_closed_is_a_session_closed_error_before_any_request() -> (
    None
):
    async with RawServer() as server:
        given = aiohttp.ClientSession()
        await given.close()
        async with session(server.url, session=given) as hilos:
            with pytest.raises(SessionClosedError, match="given to HilosSession is closed"):
                await hilos.get_execution(ONE)
            batch = await hilos.gather_executions(IDS)
            assert [type(error) for error in batch.errors.values()] == [SessionClosedError] * 3
            assert is_idle(hilos)
        assert server.connections == 0


async def test_a_given_session_closed_mid_batch_the_rest_are_session_closed_errors() -> None:
    async with RawServer([good], then=hang) as server:
        given = aiohttp.ClientSession()
        async with session(server.url, session=given) as hilos:
            task = asyncio.create_task(hilos.gather_executions(IDS))
            await until(lambda: len(server.requests) == 3 and hilos.stats.in_flight == 2)
            await given.close()
            batch = await task
            assert len(batch.executions) == 1
            assert [type(error) for error in batch.errors.values()] == [SessionClosedError] * 2
            assert is_idle(hilos)


async def test_a_given_session_closed_while_its_pool_is_full_leaves_no_id_without_an_outcome() -> (
    None
):
    """aiohttp cancels who waits for a connection when it closes: nobody cancelled the lookup."""
    async with RawServer(then=hang) as server:
        given = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1))
        async with session(server.url, session=given) as hilos:
            foreign = asyncio.create_task(given.get(f"{server.url}/{OTHER}"))
            await until(lambda: len(server.requests) == 1)
            task = asyncio.create_task(hilos.gather_executions(IDS))
            await until(lambda: hilos.stats.in_flight == 1)
            await asyncio.sleep(0.01)  # now it waits for the pool
            await given.close()
            await asyncio.wait([foreign])
            assert foreign.exception() is not None
            batch = await task
            assert list(batch.errors) == IDS
            assert {type(error) for error in batch.errors.values()} == {SessionClosedError}
            assert is_idle(hilos)


async def test_a_given_session_stays_open_and_usable() -> None:
    async with RawServer() as server, aiohttp.ClientSession() as given:
        for id in IDS:
            async with session(server.url, session=given) as hilos:
                assert await hilos.get_execution(id) == expected(id)
        assert not given.closed
        assert server.connections == 1
