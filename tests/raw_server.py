"""A TCP server that does what its script says, byte for byte: the other side of the fault tests.

Knows sockets, TLS and just enough HTTP to find the end of a request and the id in its path. Refuses
to know the client under test: what a reply means is for the tests to say.
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
import socket
import ssl
import struct
import time
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from types import TracebackType
from uuid import UUID

import anyio
import trustme

from hilos_async.testing import FakeHilos

# RST instead of FIN when the socket is closed.
_ABRUPTLY = struct.pack("ii", 1, 0)
# Longer than a client on a busy machine needs to read what was sent before a reset.
_READING_TIME = 0.005
_DOCUMENTS = FakeHilos()
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


# --- documents and replies


def ids(count: int) -> list[UUID]:
    """So many different ids, the same ones each time."""
    return [UUID(int=(0xF << 120) + (0x4 << 76) + (0x8 << 60) + number) for number in range(count)]


@functools.cache
def document(id: UUID) -> bytes:
    """The body of the good reply for that id."""
    return json.dumps(_DOCUMENTS.document(id)).encode()


def reply(
    status: int | str = 200,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    length: int | None = None,
) -> bytes:
    """A whole HTTP/1.1 reply; ``length`` is promised instead of the body's own."""
    fields = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body) if length is None else length),
        **(headers or {}),
    }
    lines = [f"HTTP/1.1 {status}" if isinstance(status, str) else f"HTTP/1.1 {status} Words"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def http_date(at: datetime) -> str:
    return format_datetime(at.astimezone(UTC).replace(microsecond=0), usegmt=True)


# --- what a server may do with a request


@dataclass(frozen=True)
class Request:
    """A request as it arrived."""

    head: bytes
    connection: int  # 1 for the first that was accepted
    beside: frozenset[int]  # those under way when it arrived, by their place in `requests`
    at: float  # on the monotonic clock
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.head.split(b" ", 2)[1].decode()

    @property
    def id(self) -> UUID:
        """The id in its path; the nil UUID where there is none, as in a list's."""
        found = _ID.search(self.path)
        return UUID(found[0]) if found else UUID(int=0)

    def header(self, name: str) -> str | None:
        found = re.search(rf"(?mi)^{re.escape(name)}: *(.*?)\r$", self.head.decode("latin-1"))
        return found and found[1]


class Exchange:
    """One request and the connection that the answer goes to."""

    def __init__(
        self,
        server: RawServer,
        request: Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.request = request
        self._server = server
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Send, and wait while the client does not read."""
        self._writer.write(data)
        await self._writer.drain()
        self._server.sent += len(data)

    async def gone(self) -> None:
        """Wait until the client closes the connection."""
        while await self._reader.read(65_536):
            pass
        self._writer.transport.abort()

    def close(self) -> None:
        """Close in good order once all is sent."""
        self._writer.close()

    def half_close(self) -> None:
        """Say that nothing more will come, and go on listening."""
        self._writer.write_eof()

    def reset(self) -> None:
        """Close with a TCP reset."""
        _reset(self._writer.transport)


Action = Callable[[Exchange], Awaitable[None]]


async def good(exchange: Exchange) -> None:
    """Answer with the execution asked for, and keep the connection open."""
    await exchange.send(reply(200, document(exchange.request.id)))


async def hang(exchange: Exchange) -> None:
    """Answer nothing for as long as the client waits."""
    await exchange.gone()


def send(data: bytes) -> Action:
    """Send these bytes and keep the connection open."""

    async def act(exchange: Exchange) -> None:
        await exchange.send(data)

    return act


def status(
    code: int, body: bytes = b'{"detail": "No."}', headers: Mapping[str, str] | None = None
) -> Action:
    """Answer with a status, and keep the connection open."""
    return send(reply(code, body, headers))


def close(data: bytes = b"") -> Action:
    """Send these bytes, then close in good order."""

    async def act(exchange: Exchange) -> None:
        await exchange.send(data)
        exchange.close()

    return act


def half_close(data: bytes = b"") -> Action:
    """Send these bytes, then close our direction only and listen until the client is gone."""

    async def act(exchange: Exchange) -> None:
        await exchange.send(data)
        exchange.half_close()
        await exchange.gone()

    return act


def reset(data: bytes = b"") -> Action:
    """Send these bytes, let the client read them, then reset the connection."""

    async def act(exchange: Exchange) -> None:
        if data:
            await exchange.send(data)
            await asyncio.sleep(_READING_TIME)
        exchange.reset()

    return act


def stall(data: bytes) -> Action:
    """Send these bytes and then nothing for as long as the client waits."""

    async def act(exchange: Exchange) -> None:
        await exchange.send(data)
        await exchange.gone()

    return act


def endless(start: bytes, again: bytes, *, pause: float = 0.0) -> Action:
    """Send ``start``, then ``again`` for ever, as fast as the client reads or with pauses."""

    async def act(exchange: Exchange) -> None:
        await exchange.send(start)
        while True:
            await exchange.send(again)
            await asyncio.sleep(pause)

    return act


def when(event: anyio.Event, action: Action) -> Action:
    """Wait for the event, then act."""

    async def act(exchange: Exchange) -> None:
        await event.wait()
        await action(exchange)

    return act


# --- what a server may do with a connection, before it reads anything


ConnectionFault = Callable[[socket.socket], None]


def reset_connection(sock: socket.socket) -> None:
    """Reset before a byte is read: under TLS, in the middle of the handshake."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABRUPTLY)


def close_connection(sock: socket.socket) -> None:
    """Close in good order before a byte is read."""


def speak_plainly(sock: socket.socket) -> None:
    """Answer a TLS hello with plain HTTP, as a proxy on the wrong port does."""
    sock.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    sock.shutdown(socket.SHUT_WR)


# --- TLS


@functools.cache
def authority() -> trustme.CA:
    return trustme.CA()


def server_tls(name: str = "127.0.0.1", *, not_after: datetime | None = None) -> ssl.SSLContext:
    """A server's context with a certificate of ``authority()``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert(name, not_after=not_after).configure_cert(context)
    return context


def client_tls() -> ssl.SSLContext:
    """A client's context that trusts ``authority()``."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    return context


# --- the server


class RawServer:
    """Listens on loopback while its ``async with`` block runs, and follows a script.

    ``script``: an action for each request in the order of arrival, or by id for each request of that
    id; ``then`` is done with all others. ``faults``: what happens to the first connections instead of
    being served. ``tls``: a server's context. ``sock``: a bound socket to listen on.
    """

    def __init__(
        self,
        script: Iterable[Action] | Mapping[UUID, Iterable[Action]] = (),
        *,
        then: Action = good,
        faults: Iterable[ConnectionFault] = (),
        tls: ssl.SSLContext | None = None,
        sock: socket.socket | None = None,
    ) -> None:
        self.script(script)
        self.then = then
        self._faults = iter(faults)
        self._tls = tls
        self._sock = bound() if sock is None else sock
        self._serving: set[asyncio.Task[None]] = set()
        self.requests: list[Request] = []
        self.connections = 0
        self.open_connections = 0
        self._under_way: set[int] = set()
        self.sent = 0  # bytes that the kernel or the client took

    def script(self, script: Iterable[Action] | Mapping[UUID, Iterable[Action]]) -> None:
        """Follow this script from now on."""
        by_id = script if isinstance(script, Mapping) else {}
        self._by_id = {id: iter(actions) for id, actions in by_id.items()}
        self._in_order: Iterator[Action] = iter(() if isinstance(script, Mapping) else script)

    @property
    def origin(self) -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{port_of(self._sock)}"

    @property
    def url(self) -> str:
        """The base URL for a client."""
        return f"{self.origin}/api"

    @property
    def in_flight(self) -> int:
        """How many requests are being answered."""
        return len(self._under_way)

    @property
    def asked(self) -> list[UUID]:
        """The ids in the order in which they were asked for."""
        return [request.id for request in self.requests]

    async def __aenter__(self) -> RawServer:
        self._sock.listen(256)
        self._sock.setblocking(False)
        self._accepting = asyncio.create_task(self._accept())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        tasks = [self._accepting, *self._serving]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._sock.close()
        for _ in range(3):  # the turns in which the loop closes aborted connections
            await asyncio.sleep(0)

    async def _accept(self) -> None:
        while True:
            sock, _ = await asyncio.get_running_loop().sock_accept(self._sock)
            self.connections += 1
            fault = next(self._faults, None)
            if fault is not None:
                with sock:
                    fault(sock)
                continue
            task = asyncio.create_task(self._serve(sock, self.connections))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    async def _serve(self, sock: socket.socket, number: int) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock, ssl=self._tls)
        except OSError:  # the client refused the certificate, or is gone
            sock.close()
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        self.open_connections += 1
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                await self._answer(head, number, reader, writer)
            await writer.wait_closed()  # until all is sent
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client is gone: how it should go is for the test to say
        finally:
            self.open_connections -= 1
            transport.abort()

    async def _answer(
        self,
        head: bytes,
        number: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        place = len(self.requests)
        request = Request(head, number, frozenset(self._under_way), time.monotonic())
        if length := request.header("Content-Length"):
            request = replace(request, body=await reader.readexactly(int(length)))
        self.requests.append(request)
        action = next(self._by_id.get(request.id, self._in_order), self.then)
        self._under_way.add(place)
        try:
            await action(Exchange(self, request, reader, writer))
        finally:
            self._under_way.discard(place)


def bound() -> socket.socket:
    """A socket with a free port of loopback, on which nobody listens yet."""
    # By its protocol asyncio knows that it may switch off Nagle's delay, of 40 ms with TLS.
    sock = socket.socket(proto=socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    return sock


def port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


@contextmanager
def deaf_listener() -> Generator[socket.socket]:
    """A listener whose queue is full and that accepts nobody: who connects gets no answer (Linux)."""
    with ExitStack() as stack:
        listener = stack.enter_context(bound())
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener


def _reset(transport: asyncio.WriteTransport) -> None:
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABRUPTLY)
    transport.abort()


# --- waiting and tidiness


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds; a ``TimeoutError`` after a time that no machine needs."""
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - what it watches sets no event
            await asyncio.sleep(0.001)


@asynccontextmanager
async def no_task_left() -> AsyncGenerator[None]:
    """Fail if tasks that began inside are alive at the end."""
    before = asyncio.all_tasks()
    yield
    # anyio's plugin drives each step of a fixture in a task of its own.
    left = [task for task in asyncio.all_tasks() - before if "TestRunner" not in repr(task)]
    assert not left, left
