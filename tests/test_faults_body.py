"""Faults in what a server says: broken HTTP, broken bodies, and good HTTP with the wrong words in it.

Each fault is sent over a real socket. What may pass is asked again; a reply that is whole and wrong
is an error for that id alone, at once.
"""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from itertools import repeat

import pytest

from hilos_async import (
    AttemptTimeoutError,
    DecodeError,
    ResponseTooLargeError,
    RetryPolicy,
    ServerError,
    TransportError,
)
from tests.faults import BAD, IDS, ONE, OTHER, expected, session, the_error_of_the_bad_one
from tests.raw_server import (
    Action,
    RawServer,
    chunk,
    close,
    document,
    endless,
    no_task_left,
    reply,
    send,
    stall,
    status,
    until,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_time")]

JSON = "Content-Type: application/json\r\n"
CHUNKED = f"HTTP/1.1 200 OK\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n".encode()
GZIPPED = f"HTTP/1.1 200 OK\r\n{JSON}Content-Encoding: gzip\r\n".encode()
PLAIN = f"HTTP/1.1 200 OK\r\n{JSON}".encode()
MIB = 1_048_576


@pytest.fixture(autouse=True)
async def _tidy() -> AsyncIterator[None]:
    async with no_task_left():
        yield


def gzipped(body: bytes) -> bytes:
    return GZIPPED + b"Content-Length: %d\r\n\r\n" % len(body) + body


def encoded(encoding: str, body: bytes, status: int | str = 200) -> bytes:
    return reply(status, body, {"Content-Encoding": encoding})


def deflated(data: bytes, wbits: int) -> bytes:
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(data) + packer.flush()


def corrupt(compressed: bytes) -> bytes:
    """Compressed data of which the middle is not what was compressed."""
    middle = len(compressed) // 2
    return compressed[:middle] + bytes(40) + compressed[middle + 40 :]


# --- broken on the way: asked again


WHOLE = document(BAD)
PACKED = gzip.compress(WHOLE)
BROKEN: dict[str, Action] = {
    "truncated with Content-Length": close(reply(200, WHOLE[:-40], length=len(WHOLE))),
    "truncated to nothing with Content-Length": close(reply(200, length=len(WHOLE))),
    "truncated chunked, between chunks": close(CHUNKED + chunk(WHOLE[:-40])),
    "truncated chunked, in a chunk": close(CHUNKED + chunk(WHOLE)[:-40]),
    "truncated chunked, before the last chunk": close(CHUNKED + chunk(WHOLE)),
    "corrupt chunk size": send(CHUNKED + chunk(WHOLE[:-40]) + b"zz\r\n}\r\n0\r\n\r\n"),
    "corrupt gzip": send(gzipped(corrupt(PACKED))),
    "corrupt gzip checksum": send(gzipped(PACKED[:-8] + bytes(8))),
    "truncated gzip": close(gzipped(PACKED[:-40])),
    "gzip that is none": send(gzipped(WHOLE)),
    "garbage status line": close(b"\x16\x03\x01 what? \r\n\r\n"),
    "status line of another protocol": close(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    "status line without a number": close(reply("OK", WHOLE)),
    "header without a colon": close(b"HTTP/1.1 200 OK\r\nContent-Length 5\r\n\r\nhello"),
    "header too large": close(reply(200, WHOLE, {"X-Large": "a" * 70_000})),
    "two Content-Lengths": close(
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n[1,2,3]"
    ),
    "Content-Length that is no number": close(reply(200, WHOLE, {"Content-Length": "-5"})),
}
broken = pytest.mark.parametrize("fault", BROKEN.values(), ids=BROKEN.keys())


@broken
async def test_a_reply_broken_once_ends_in_a_result(fault: Action) -> None:
    async with RawServer({BAD: [fault]}) as server, session(server.url) as hilos:
        batch = await hilos.gather_executions(IDS)
        assert batch.executions == {id: expected(id) for id in IDS}
        assert server.asked.count(BAD) == 2
        assert hilos.stats.retries == 1
        assert hilos.stats.in_flight == hilos.stats.waiting == 0


@broken
async def test_a_reply_always_broken_is_a_transport_error_for_that_id_alone(fault: Action) -> None:
    async with RawServer({BAD: repeat(fault)}) as server, session(server.url) as hilos:
        error = await the_error_of_the_bad_one(server, hilos)
        assert type(error) is TransportError
        assert error.transient
        assert error.attempts == 4


# --- compressed in an unusual way, and well


UNUSUAL: dict[str, Action] = {
    "gzip": send(gzipped(PACKED)),
    "gzip under its old name, in capitals": send(encoded("X-GZip", PACKED)),
    "gzip in pieces of a byte": send(
        GZIPPED
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"".join(chunk(PACKED[at : at + 1]) for at in range(len(PACKED)))
        + b"0\r\n\r\n"
    ),
    "gzip in two members": send(gzipped(gzip.compress(WHOLE[:100]) + gzip.compress(WHOLE[100:]))),
    "deflate": send(encoded("deflate", deflated(WHOLE, zlib.MAX_WBITS))),
    "deflate without its header": send(encoded("deflate", deflated(WHOLE, -zlib.MAX_WBITS))),
    "identity": send(encoded("identity", WHOLE)),
    "an empty encoding": send(encoded("", WHOLE)),
    "none": send(encoded("none", WHOLE)),
    "a character set": send(encoded("UTF-8", WHOLE)),
    "S3's framing": send(encoded("aws-chunked", WHOLE)),
    "S3's framing around gzip": send(encoded("aws-chunked, gzip", PACKED)),
    "gzip and nothing more": send(encoded("gzip, identity,", PACKED)),
}


@pytest.mark.parametrize("unusual", UNUSUAL.values(), ids=UNUSUAL.keys())
async def test_a_reply_compressed_in_any_form_that_was_asked_for_ends_in_a_result(
    unusual: Action,
) -> None:
    async with RawServer([unusual]) as server, session(server.url) as hilos:
        assert await hilos.get_execution(BAD) == expected(BAD)
        assert await hilos.get_execution(BAD) == expected(BAD)
        assert [request.connection for request in server.requests] == [1, 1]


async def test_a_reply_in_an_encoding_that_was_not_asked_for_is_an_error_for_that_id_alone() -> (
    None
):
    unknown = endless(PLAIN + b"Content-Encoding: compress\r\n\r\n", b"\x1f\x9d\x90 like LZW")
    async with RawServer({BAD: repeat(unknown)}) as server, session(server.url) as hilos:
        error = await the_error_of_the_bad_one(server, hilos)
        assert isinstance(error, (TransportError, DecodeError, ResponseTooLargeError))
        assert "compress" not in (server.requests[0].header("Accept-Encoding") or "").split(", ")
        await until(lambda: server.in_flight == 0)  # its connection is closed


# --- a head without an end: the client's bounds end it, at the latest attempt_timeout


ENDLESS_HEADS: dict[str, Action] = {
    "endless headers": endless(b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n" * 2_000),
    "endless header": endless(b"HTTP/1.1 200 OK\r\nX-More: ", b"and more " * 4_000),
    "endless status line": endless(b"HTTP/1.1 200 ", b"OK " * 4_000),
}
endless_heads = pytest.mark.parametrize("fault", ENDLESS_HEADS.values(), ids=ENDLESS_HEADS.keys())


@endless_heads
async def test_an_endless_head_once_ends_in_a_result(fault: Action) -> None:
    async with (
        RawServer({BAD: [fault]}) as server,
        session(server.url, attempt_timeout=0.25) as hilos,
    ):
        batch = await hilos.gather_executions(IDS)
        assert batch.executions == {id: expected(id) for id in IDS}
        assert server.asked.count(BAD) == 2
        assert hilos.stats.in_flight == hilos.stats.waiting == 0


@endless_heads
async def test_an_endless_head_is_a_transport_error_for_that_id_alone_and_is_not_held_in_memory(
    fault: Action,
) -> None:
    async with (
        RawServer({BAD: repeat(fault)}) as server,
        session(server.url, attempt_timeout=0.25) as hilos,
    ):
        tracemalloc.start()
        try:
            error = await the_error_of_the_bad_one(server, hilos)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert isinstance(error, TransportError)
        assert error.transient
        assert error.attempts == 4
        assert peak < 64 * MIB, f"{peak:,} bytes"
        await until(lambda: server.in_flight == 0)  # its connection is closed


# --- never ends: attempt_timeout bounds it


DRIP = reply(200, WHOLE)
ENDLESS: dict[str, Action] = {
    "nothing": stall(b""),
    "no end of the headers": stall(DRIP[:60]),
    "no end of the body": stall(DRIP[:-40]),
    "slow drip of the headers": endless(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"a", pause=0.005),
    "slow drip of the body": endless(reply(200, b"{", length=MIB), b" ", pause=0.005),
    "slow drip of chunks": endless(CHUNKED, chunk(b" "), pause=0.005),
    "1xx storm": endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n", pause=0.001),
    "1xx storm as fast as can be": endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 500),
}
never_ends = pytest.mark.parametrize("fault", ENDLESS.values(), ids=ENDLESS.keys())


@never_ends
async def test_a_reply_that_once_never_ends_ends_in_a_result(fault: Action) -> None:
    async with (
        RawServer({BAD: [fault]}) as server,
        session(server.url, attempt_timeout=0.25) as hilos,
    ):
        batch = await hilos.gather_executions(IDS)
        assert batch.executions == {id: expected(id) for id in IDS}
        assert server.asked.count(BAD) == 2
        assert hilos.stats.in_flight == hilos.stats.waiting == 0


@never_ends
async def test_a_reply_that_never_ends_is_an_attempt_timeout_error_for_that_id_alone(
    fault: Action,
) -> None:
    quick = RetryPolicy(attempts=2, max_backoff=0.01)
    async with (
        RawServer({BAD: repeat(fault)}) as server,
        session(server.url, attempt_timeout=0.25, retry=quick) as hilos,
    ):
        error = await the_error_of_the_bad_one(server, hilos)
        assert type(error) is AttemptTimeoutError
        assert error.attempts == 2
        await until(lambda: server.in_flight == 0)  # its connection is closed


async def test_a_1xx_storm_before_a_good_reply_ends_in_a_result() -> None:
    storm = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 1_000
    async with (
        RawServer([send(storm + reply(200, document(ONE)))]) as server,
        session(server.url) as hilos,
    ):
        assert await hilos.get_execution(ONE) == expected(ONE)
        assert len(server.requests) == 1


# --- too much: abandoned, never held in memory


def bomb(mebibytes: int) -> bytes:
    """Gzip that unpacks to so many MiB of blanks, a thousand times its own size."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    start = packer.compress(b" " * MIB) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(b" " * MIB) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + again * (mebibytes - 1)


BOMB = bomb(1_024)
TOO_LARGE: dict[str, Action] = {
    "gzip bomb with Content-Length": send(gzipped(BOMB)),
    "gzip bomb, chunked": send(
        GZIPPED + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(BOMB) + b"0\r\n\r\n"
    ),
    "endless body until the connection ends": endless(PLAIN + b"\r\n", b" " * 65_536),
    "endless body of chunks": endless(CHUNKED, chunk(b" " * 65_536)),
    "endless body of small chunks": endless(CHUNKED, chunk(b" " * 64) * 1_000),
    "endless body with a giant Content-Length": endless(
        PLAIN + b"Content-Length: 1000000000000\r\n\r\n", b" " * 65_536
    ),
}
too_large = pytest.mark.parametrize("fault", TOO_LARGE.values(), ids=TOO_LARGE.keys())


@too_large
async def test_a_reply_too_large_is_an_error_for_that_id_alone_and_is_abandoned(
    fault: Action,
) -> None:
    async with RawServer({BAD: repeat(fault)}) as server, session(server.url) as hilos:
        error = await the_error_of_the_bad_one(server, hilos)
        assert isinstance(error, ResponseTooLargeError)
        assert error.limit == MIB
        assert error.attempts == 1
        await until(lambda: server.in_flight == 0)  # its connection is closed
        assert server.sent < 32 * MIB  # what sockets buffer


@too_large
async def test_a_reply_too_large_is_never_held_in_memory(fault: Action) -> None:
    async with RawServer({BAD: repeat(fault)}) as server, session(server.url) as hilos:
        await hilos.get_execution(ONE)
        tracemalloc.start()
        try:
            with pytest.raises(ResponseTooLargeError):
                await hilos.get_execution(BAD)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 64 * MIB, f"{peak:,} bytes"  # the bomb is 1,024


async def test_endless_bytes_after_the_end_of_gzip_are_an_error_and_are_abandoned() -> None:
    once = RetryPolicy(attempts=1)
    after = endless(GZIPPED + b"\r\n" + PACKED, bytes(65_536))
    async with (
        RawServer({BAD: repeat(after)}) as server,
        session(server.url, retry=once, attempt_timeout=2) as hilos,
    ):
        error = await the_error_of_the_bad_one(server, hilos)
        assert isinstance(error, (TransportError, ResponseTooLargeError))
        await until(lambda: server.in_flight == 0)  # its connection is closed
        assert server.sent < 32 * MIB  # what sockets buffer


async def test_gzip_bomb_the_bomb_of_these_tests_is_one() -> None:
    assert len(zlib.decompressobj(31).decompress(bomb(8))) == 8 * MIB
    assert len(BOMB) < 2 * MIB


async def test_a_reply_of_exactly_the_limit_ends_in_a_result_and_one_byte_more_is_too_large() -> (
    None
):
    size = len(document(ONE))
    async with RawServer() as server:
        async with session(server.url, max_response_bytes=size) as hilos:
            assert await hilos.get_execution(ONE) == expected(ONE)
        async with session(server.url, max_response_bytes=size - 1) as hilos:
            with pytest.raises(ResponseTooLargeError):
                await hilos.get_execution(ONE)


# --- whole, and not what was asked for: an error at once


DEEP = 200_000
WRONG: dict[str, tuple[Action, str]] = {
    "204 without a body": (send(b"HTTP/1.1 204 No Content\r\n\r\n"), "is empty (status 204)"),
    "200 without a body": (status(200, b""), "is empty (status 200)"),
    "204 that names an encoding": (
        send(b"HTTP/1.1 204 No Content\r\nContent-Encoding: gzip\r\n\r\n"),
        "is empty (status 204)",
    ),
    "200 without a body that names an encoding": (
        send(encoded("gzip", b"")),
        "is empty (status 200)",
    ),
    "only white space": (status(200, b" \r\n"), "truncated"),
    "truncated JSON": (status(200, WHOLE[:-40]), "truncated"),
    "JSON null": (status(200, b"null"), "Expected `object`, got `null`"),
    "a list of executions": (status(200, b"[" + WHOLE + b"]"), "Expected `object`, got `array`"),
    "two documents": (status(200, WHOLE + WHOLE), "trailing characters"),
    "200,000 nested brackets": (status(200, b"[" * DEEP + b"]" * DEEP), ""),
    "200,000 open brackets": (status(200, b"[" * DEEP), ""),
    "200,000 nested objects": (status(200, b'{"":' * DEEP + b"1" + b"}" * DEEP), ""),
    "200,000 nested brackets in a field": (
        status(200, b'{"flow_execution_variables":' + b"[" * DEEP + b"]" * DEEP + b"," + WHOLE[1:]),
        "",
    ),
    "200,000 nested brackets in an unknown field": (
        status(200, b'{"news":' + b"[" * DEEP + b"]" * DEEP + b"," + WHOLE[1:]),
        "",
    ),
    "NaN": (status(200, b'{"num_contacts": NaN,' + WHOLE[1:]), "invalid character"),
    "Infinity": (status(200, b'{"num_contacts": Infinity,' + WHOLE[1:]), "invalid character"),
    "HTML 200": (
        send(reply(200, b"<!doctype html><title>Log in</title>", {"Content-Type": "text/html"})),
        "<!doctype html>",
    ),
    "bad UTF-8": (
        status(200, b'{"status_reason": "Ma\xf1ana",' + WHOLE[1:]),
        "utf-8",
    ),
    "UTF-16": (status(200, WHOLE.decode().encode("utf-16")), ""),
    "another id's body": (status(200, document(OTHER)), str(OTHER)),
    "duplicate keys, the last one another's id": (
        status(200, WHOLE[:-1] + b', "id": "%s"}' % str(OTHER).encode()),
        str(OTHER),
    ),
}


@pytest.mark.parametrize(("fault", "words"), WRONG.values(), ids=WRONG.keys())
async def test_a_whole_reply_that_is_no_execution_is_a_decode_error_for_that_id_alone(
    fault: Action, words: str
) -> None:
    async with RawServer({BAD: repeat(fault)}) as server, session(server.url) as hilos:
        error = await the_error_of_the_bad_one(server, hilos)
        assert isinstance(error, DecodeError)
        assert error.path.startswith("$")
        assert words in str(error) or words.encode() in error.body
        assert len(str(error)) < 500
        assert error.attempts == 1
        assert server.connections <= 3  # a bad document costs no connection


async def test_another_ids_body_names_the_place() -> None:
    async with RawServer([status(200, document(OTHER))]) as server, session(server.url) as hilos:
        with pytest.raises(DecodeError) as caught:
            await hilos.get_execution(BAD)
        assert caught.value.path == "$.id"


async def test_duplicate_keys_end_in_a_result_and_the_last_one_counts() -> None:
    other = b'{"id": "%s", "num_contacts": 1,' % str(OTHER).encode()
    async with RawServer([status(200, other + WHOLE[1:])]) as server, session(server.url) as hilos:
        assert await hilos.get_execution(BAD) == expected(BAD)


# --- a proxy's page instead of the API's error


PAGE = send(
    reply(502, b"<html><h1>502 Bad Gateway</h1>nginx</html>", {"Content-Type": "text/html"})
)


async def test_html_502_once_ends_in_a_result() -> None:
    async with RawServer({BAD: [PAGE]}) as server, session(server.url) as hilos:
        batch = await hilos.gather_executions(IDS)
        assert batch.executions == {id: expected(id) for id in IDS}
        assert server.asked.count(BAD) == 2


async def test_html_502_always_is_a_server_error_for_that_id_alone() -> None:
    async with RawServer({BAD: repeat(PAGE)}) as server, session(server.url) as hilos:
        error = await the_error_of_the_bad_one(server, hilos)
        assert isinstance(error, ServerError)
        assert error.status == 502
        assert error.detail == ""
        assert b"502 Bad Gateway" in error.body
        assert error.attempts == 4
