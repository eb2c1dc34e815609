"""The API key shows up nowhere: not in a repr, a record, an error, a pickle, a traceback, a redirect."""

from __future__ import annotations

import asyncio
import copy
import io
import logging
import pickle
import traceback
from typing import TYPE_CHECKING
from uuid import UUID

import aiohttp
import msgspec
import pytest

from hilos_async import ExecutionBatch, HilosError, HilosSession, RetryPolicy
from hilos_async.testing import FakeHilos, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.anyio

KEY = "sk-9f8e7d6c5b4a-very-secret"
ID = UUID("a1b2c3d4-0000-4000-8000-1234567890ab")
ECHO = f'{{"detail": "Invalid token {KEY}."}}'.encode()
TROUBLES = [
    Fault.status(401, detail=f"Invalid token {KEY}."),
    Fault.status(403),
    Fault.status(404),
    Fault.status(429, retry_after=1_000),
    Fault.status(500),
    Fault.reset("before"),
    Fault.reset("headers"),
    Fault.reset("body"),
    Fault.truncate(),
    Fault.delay(9.0),
    Fault.body(b"<html>"),
    Fault.body(ECHO),
    Fault.body(ECHO, status=500),
    Fault.raw(b"HTTP/1.1 " + KEY.encode() + b"\r\n\r\n"),
    Fault.raw(
        b"HTTP/1.1 302 Found\r\nLocation: https://evil.example/?k=" + KEY.encode() + b"\r\n\r\n"
    ),
    Fault.raw(b"HTTP/1.1 200 OK\r\nX-" + KEY.encode() + b" broken\r\n\r\n"),
    Fault.raw(b"HTTP/1.1 200 OK\r\nX: " + KEY.encode() + b"\r\nBad line\r\n\r\n"),
    Fault.raw(
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\nX: "
        + KEY.encode()
        + b"\r\n\r\n"
    ),
    Fault.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + ECHO),  # cut short
    Fault.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\nX: " + KEY.encode() + b"\r\n\r\n{}"),
    Fault.raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\nzz\r\n"
        % (len(ECHO), ECHO)
    ),
    Fault.body(b"<html>", headers={"X-Echo": KEY}),
    Fault.body(b"\x1f\x8b" + ECHO, headers={"Content-Encoding": "gzip"}),
    Fault.body(ECHO * 100),  # too large
    Fault.body(b"x" * 5_000, headers={"X-Echo": KEY}),
    Fault.body(  # of another id
        msgspec.json.encode({**FakeHilos().document(UUID(int=7)), "status_reason": KEY})
    ),
]


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """All that any logger says, at every level."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(before)


def everything_of(error: BaseException) -> str:
    """Every text that somebody may make of an error, its chain included.

    Also a traceback with the variables of each frame, but for those of the tests and the fake
    server: they know the key by right.
    """
    lines = traceback.TracebackException.from_exception(error, capture_locals=True)
    chain: traceback.TracebackException | None = lines
    while chain is not None:
        chain.stack[:] = [frame for frame in chain.stack if "/test" not in frame.filename]
        chain = chain.__cause__ or chain.__context__
    texts = ["".join(lines.format()), repr(error), str(error), repr(vars(error))]
    if isinstance(error, HilosError):
        texts += [repr(pickle.dumps(error)), repr(copy.copy(error))]
    chained = error.__cause__ or error.__context__
    if isinstance(chained, HilosError):
        texts.append(everything_of(chained))
    return "\n".join(texts)


@pytest.mark.parametrize("header", ["Authorization", "Api-Token"])
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda fault: repr(fault)[:60])
async def test_no_error_and_no_record_holds_the_key(
    trouble: Fault, header: str, logged: io.StringIO
) -> None:
    asyncio.get_running_loop().set_debug(True)
    once = RetryPolicy(attempts=2, max_backoff=0.001)
    async with (
        FakeHilos(KEY, faults=[trouble]) as fake,
        fake.session(
            retry=once,
            attempt_timeout=0.2,
            timeout=2.0,
            auth_header=header,
            max_response_bytes=4_000,
            pace="off",
        ) as hilos,
    ):
        assert KEY not in f"{hilos!r} {hilos} {hilos.stats}"
        with pytest.raises(HilosError) as caught:
            await hilos.get_execution(ID)
        text = everything_of(caught.value)
        try:  # two at once: then they are read together
            batch = await hilos.gather_executions([ID, UUID(int=1)], timeout=0.3)
        except HilosError as error:
            batch = getattr(error, "batch", ExecutionBatch({}, {}))
            text += everything_of(error)
        text += repr(batch) + "".join(map(everything_of, batch.errors.values()))
    assert KEY not in text
    assert KEY not in logged.getvalue()


async def test_the_search_finds_what_it_looks_for(logged: io.StringIO) -> None:
    logging.getLogger("anything").debug("%s", KEY)
    assert KEY in logged.getvalue()
    error = HilosError("x")
    error.body = KEY  # type: ignore[attr-defined]  # as if the library had kept it
    assert KEY in everything_of(error)


async def test_no_redirect_carries_the_key_to_another_origin() -> None:
    async with FakeHilos("other") as elsewhere:
        to = f"{elsewhere.base_url}/flow-execution/{ID}".encode()
        redirect = Fault.raw(
            b"HTTP/1.1 307 X\r\nContent-Length: 0\r\nLocation: " + to + b"\r\n\r\n"
        )
        async with FakeHilos(KEY, faults=[redirect]) as fake:
            for header in ("Authorization", "Api-Token"):
                async with fake.session(auth_header=header) as hilos:
                    with pytest.raises(HilosError, match="redirect to http://127"):
                        await hilos.get_execution(ID)
        assert elsewhere.requests == 0


async def test_an_unclosed_session_does_not_show_the_key() -> None:
    async with FakeHilos(KEY) as fake:
        hilos = fake.session()
        await hilos.get_execution(ID)
        shown = repr(vars(hilos)) + repr(vars(hilos._client)) + repr(vars(hilos._client.transport))
        await hilos.aclose()
    assert KEY not in shown


async def test_no_configuration_error_shows_the_key() -> None:
    wrong: list[Callable[[], HilosSession]] = [
        lambda: HilosSession(KEY, base_url="x"),
        lambda: HilosSession(KEY, account="a b"),
        lambda: HilosSession(KEY, auth_header="a b"),
        lambda: HilosSession(KEY, timeout=0),
    ]
    for make in wrong:
        with pytest.raises(ValueError, match="=") as caught:
            make()
        assert KEY not in f"{caught.value!r}"


async def test_a_proxy_password_is_not_shown_either() -> None:
    hilos = HilosSession(
        KEY,
        base_url="http://127.0.0.1:1",
        proxy="http://u:hunter2@127.0.0.1:1",
        retry=RetryPolicy(attempts=1),
    )
    async with hilos:
        with pytest.raises(HilosError) as caught:
            await hilos.get_execution(ID)
    assert "hunter2" not in f"{caught.value!r} {caught.value} {hilos!r}"
    assert isinstance(caught.value.__cause__, aiohttp.ClientError | None)


@pytest.mark.parametrize("trust_env", [False, True])
@pytest.mark.parametrize("base_url", ["https://api.example/api", "http://api.localhost:9/api"])
async def test_a_proxy_is_not_told_the_key_as_its_password(
    base_url: str, trust_env: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        proxy = f"http://u:hunter2@127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, proxy.replace("u:hunter2@", ""))
        async with HilosSession(
            KEY,
            base_url=base_url,
            proxy=None if trust_env else proxy,
            trust_env=trust_env,
            retry=RetryPolicy(attempts=1),
        ) as hilos:
            with pytest.raises(HilosError) as caught:
                await hilos.get_execution(ID)
    (head,) = heads
    fields = {line.partition(b":")[0].lower(): line for line in head.splitlines()[1:]}
    assert KEY.encode() not in fields.get(b"proxy-authorization", b"")
    assert (KEY.encode() in head) is base_url.startswith("http:")  # there the proxy hands it on
    assert "hunter2" not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"
