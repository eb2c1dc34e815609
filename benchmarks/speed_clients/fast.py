"""What is faster than this library: HTTP in Rust, and a protocol with nothing around it.

Both decode into this library's own model, so that only the way there differs.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import msgspec

from benchmarks.speed_clients import CONCURRENCY
from hilos_async import FlowExecution

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from benchmarks.speed_clients import Get

_BUFFER_BYTES = 65_536


@asynccontextmanager
async def pyreqwest(base_url: str) -> AsyncIterator[Get]:
    """reqwest, through its Python bindings."""
    from pyreqwest.client import ClientBuilder

    decode = msgspec.json.Decoder(FlowExecution).decode
    builder = ClientBuilder().default_headers({"Authorization": "Token benchmark"})
    async with builder.max_connections(CONCURRENCY).error_for_status().build() as client:

        async def get(execution_id: UUID) -> FlowExecution:
            request = client.get(f"{base_url}/flow-execution/{execution_id}").build()
            response = await request.send()
            return decode(memoryview(await response.bytes()))

        yield get


class _Connection(asyncio.BufferedProtocol):
    """One request after the other; httptools calls the `on_` methods."""

    def __init__(self) -> None:
        import httptools

        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._new_parser = httptools.HttpResponseParser
        self._body = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._parser.feed_data(self._buffer[:nbytes])

    def on_body(self, part: bytes) -> None:
        self._body += part

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() == 200:
            self._answer.set_result(bytes(self._body))
        else:
            self._answer.set_exception(RuntimeError("refused"))

    def ask(self, request: bytes) -> asyncio.Future[bytes]:
        self._answer = asyncio.get_running_loop().create_future()
        self._parser = self._new_parser(self)
        self._body.clear()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        self._transport.close()


@asynccontextmanager
async def bare(base_url: str) -> AsyncIterator[Get]:
    """The limit of Python here: no timeout, no pool but a list, no error but a broken run."""
    where = urlsplit(base_url)
    host, port = where.hostname or "", where.port or 80
    decode = msgspec.json.Decoder(FlowExecution).decode
    loop = asyncio.get_running_loop()
    head = f"GET {where.path}/flow-execution/"
    tail = f" HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Token benchmark\r\n\r\n"
    connections: list[_Connection] = []
    idle: list[_Connection] = []

    async def get(execution_id: UUID) -> FlowExecution:
        if idle:
            connection = idle.pop()
        else:
            _, connection = await loop.create_connection(_Connection, host, port)
            connections.append(connection)
        body = await connection.ask(f"{head}{execution_id}{tail}".encode())
        idle.append(connection)
        return decode(body)

    try:
        yield get
    finally:
        for connection in connections:
            connection.close()
