"""Puts a reply on a connection, whole or broken as a fault orders.

The only place that touches a socket. It decides nothing: what to answer and whom to hit come from
the other rooms.
"""

import asyncio
import contextlib
import socket
import struct
import sys
import time
from http import HTTPStatus

from aiohttp import hdrs, web

from hilos_async.testing._faults import Fault
from hilos_async.testing._replies import Reply, error

# "Close at once and send a reset": on, with no time to linger.
_LINGER_ZERO = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
# How long leaving waits for connections that are aborted already; it takes a few loop turns.
_CLOSING_PATIENCE = 1.0
# In how many turns of the loop a connection that is being accepted comes to be known.
_ACCEPTING_TURNS = 5


def response(reply: Reply) -> web.Response:
    """Make the reply one that aiohttp sends whole."""
    headers = {**reply.headers, hdrs.CONTENT_TYPE: reply.content_type}
    return web.Response(status=reply.status, body=reply.body, headers=headers)


async def strike(fault: Fault, request: web.BaseRequest, reply: Reply) -> web.Response:
    """Do to `reply` what the fault says, on the request's connection where it must be."""
    headers = {**reply.headers, **fault.headers}
    match fault.kind:
        case "delay":
            await asyncio.sleep(fault.seconds)
            return response(reply)
        case "status":
            return response(error(fault.code, fault.detail or "", headers))
        case "body":
            return response(Reply(fault.code, fault.content, fault.content_type, headers))
        case "raw":
            await _send_and_close(request, fault.content, reset=False)
        case "truncate":
            await _send_and_close(request, _cut(fault, reply), reset=False)
        case "reset":
            sent = {
                "before": b"",
                "headers": _head(reply, "Content-Length: ").removesuffix(b"\r\n\r\n"),
                "body": _whole(reply)[: -len(reply.body) // 2],
            }
            await _send_and_close(request, sent[fault.where], reset=True)
    # The connection is gone; aiohttp wants a response nonetheless and finds nobody to send it to.
    return web.Response()


def stop_accepting(listener: asyncio.Server) -> None:
    """Take no more connections. Those being taken come to be known within few turns."""
    # asyncio takes a connection in a task; if the server closes before that task runs, the task
    # fails on it and the socket leaks. So take no more of them first, and close later. The proactor
    # of Windows knows no readers, but it takes connections at once and has nothing to wait for.
    with contextlib.suppress(NotImplementedError):
        for taking in listener.sockets:
            asyncio.get_running_loop().remove_reader(taking.fileno())


async def close(listener: asyncio.Server, server: web.Server) -> None:
    """Abort all connections, wait until what served them has ended, close the listener."""
    patience_ends = time.monotonic() + _CLOSING_PATIENCE
    turns = 0
    try:
        # The second half is for loops that go on taking connections until the listener is closed.
        while turns < 2 * _ACCEPTING_TURNS or (
            server.connections and time.monotonic() < patience_ends
        ):
            if turns == _ACCEPTING_TURNS:
                listener.close()
            for connection in server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
            turns += 1
            await asyncio.sleep(0)
    finally:
        listener.close()


def _cut(fault: Fault, reply: Reply) -> bytes:
    kept = reply.body[: int(len(reply.body) * fault.keep)]
    if not fault.chunked:
        return _head(reply, f"Content-Length: {len(reply.body)}") + kept
    chunk = b"%x\r\n%b\r\n" % (len(kept), kept) if kept else b""
    return _head(reply, "Transfer-Encoding: chunked") + chunk


def _whole(reply: Reply) -> bytes:
    return _head(reply, f"Content-Length: {len(reply.body)}") + reply.body


def _head(reply: Reply, framing: str) -> bytes:
    fields = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
    return (
        f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}\r\n"
        f"Content-Type: {reply.content_type}\r\n{fields}{framing}\r\n\r\n"
    ).encode()


async def _send_and_close(request: web.BaseRequest, data: bytes, *, reset: bool) -> None:
    transport = request.transport
    if transport is None:  # pragma: no cover (the client left, and we are cancelled for it)
        return
    if data:
        transport.write(data)
        # uvloop sends at the end of the loop's turn: aborting in this one would drop the bytes.
        await asyncio.sleep(0)
    if reset:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        transport.abort()
    else:
        transport.close()
