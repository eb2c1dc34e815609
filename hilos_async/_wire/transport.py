"""One attempt over aiohttp: connect, headers and body, or an error of ours.

The aiohttp session is made or given here. aiohttp's errors become ours here and nowhere else; what they
are called stands in ``failures.py``.
"""

from __future__ import annotations

import asyncio
import io
import os
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.payload import BytesIOPayload
from yarl import URL

from hilos_async._wire.deadlines import Deadlines
from hilos_async._wire.failures import (
    CREDENTIALS,
    broke_before_reply,
    transport_error,
    without_frames,
)
from hilos_async._wire.unpack import unpacker
from hilos_async.errors import AttemptTimeoutError, ResponseTooLargeError, SessionClosedError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.client_middlewares import ClientHandlerType
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.tracing import Trace

    from hilos_async._wire.address import Secret
    from hilos_async._wire.call import Call, Sending
    from hilos_async.errors import HilosError

# The session bounds the attempt itself: aiohttp's total would start while waiting for a connection.
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=None, sock_read=None)
_RECEIVE_BYTES: Final = 65_536
_connected_at: ContextVar[float] = ContextVar("connected_at", default=0.0)  # by this task, last


class _Connector(aiohttp.TCPConnector):
    """Connections that receive into less memory, and that tell when they were made.

    asyncio allocates 256 KiB for each receive from a plain socket and gives nearly all of it back: for
    a reply of a few kilobytes, a tenth of the CPU time. Over TLS and under uvloop it does not.
    """

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        made = await super()._create_connection(req, traces, timeout)
        if hasattr(made.transport, "max_size"):  # asyncio's own, of a plain socket
            setattr(made.transport, "max_size", _RECEIVE_BYTES)  # noqa: B010 - undeclared
        _connected_at.set(time.monotonic())
        return made


class _Body(BytesIOPayload):
    """A body that notes when aiohttp begins to send it; until then no request can have arrived."""

    def __init__(self, sending: Sending) -> None:
        super().__init__(io.BytesIO(sending.body or b""), content_type="application/json")
        self._sending = sending

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        self._sending.begun_at = datetime.now(UTC)
        await super().write_with_length(writer, content_length)


class _Broken(Exception):  # noqa: N818 - never leaves this module
    """An error of a given session's connection, in a form that aiohttp does not ask again for."""

    def __init__(self, error: aiohttp.ClientError) -> None:
        super().__init__()
        self.error = error


class Transport:
    """The connections of a session and of all that were derived from it."""

    def __init__(
        self,
        base_url: URL,
        key: Secret,
        headers: Mapping[str, str],
        *,
        session: aiohttp.ClientSession | None,
        proxy: str | None,
        ssl: ssl.SSLContext | aiohttp.Fingerprint | bool,
        trust_env: bool,
        trace_configs: Sequence[aiohttp.TraceConfig],
    ) -> None:
        self.base_url = base_url
        self.closed = False
        self._prefix = f"{base_url.raw_path.rstrip('/')}/"
        self._key = key
        self._headers = headers
        self._given = session
        self._session = session
        self._fresh: aiohttp.ClientSession | None = None  # whose connections are used once
        self._trust_env = trust_env
        self._trace_configs = list(trace_configs)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._deadlines = Deadlines()
        self._has_answered = False
        self._ask: dict[str, Any] = {
            "allow_redirects": False,  # aiohttp would send a key in another header along
            "raise_for_status": False,  # a session we were given may have it on
            "timeout": _NO_TIMEOUT,
            "auto_decompress": False,  # it would not notice a body that ends too early
            "proxy": proxy,
            "ssl": ssl,
        }
        if session is not None:
            # It has no public way to tell them; those of a request replace them.
            theirs = getattr(session, "_middlewares", ())
            self._ask["middlewares"] = (*theirs, self._as_ours)

    def closed_error(self) -> SessionClosedError:
        """The error of whoever still uses a closed session."""
        if not self.closed:
            return SessionClosedError(
                "the aiohttp session that was given to HilosSession is closed"
            )
        return SessionClosedError(
            "the HilosSession is closed; make one per application and use it inside its async with"
        )

    def open(self) -> aiohttp.ClientSession:
        """The aiohttp session, made on first use and bound to the loop it was first used on."""
        if self.closed:
            raise self.closed_error()
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._bind(loop)
        if self._session is None:
            # As late as this, so that OpenTelemetry's instrument() reaches a session made before it.
            self._session = self._new_session(_Connector(limit=0))  # the gate bounds them
        elif self._session.closed:
            raise self.closed_error()
        return self._session

    def _open_for(self, call: Call[Any], session: aiohttp.ClientSession) -> aiohttp.ClientSession:
        """The aiohttp session for a request that is more than a plain GET.

        One that must not be sent twice, and one that has just met a closed connection, gets a new
        connection: a kept one may be closed as well, and whether the request arrived would be unknown. A
        given session decides about its connections itself.
        """
        must_be_new = call.is_stale or call.method != "GET"
        call.is_stale = False
        if not must_be_new or self._given is not None:
            return session
        if self._fresh is None:
            self._fresh = self._new_session(_Connector(limit=0, force_close=True))
        return self._fresh

    def _new_session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        if self._trust_env and self._ask["proxy"] is None:
            self._ask["proxy"] = _environment_proxy(self.base_url)
        # aiohttp sends a session's own headers to a proxy too, and the key among them as its password.
        is_direct = self._ask["proxy"] is None
        if not is_direct:
            self._ask["headers"] = self._headers
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers if is_direct else None,  # merged once, not for each request
            trust_env=False,  # it would send a password of the netrc file along, or fail over it
            trace_configs=self._trace_configs,
        )
        # aiohttp asks a GET again by itself when a connection breaks: a request that no pace let
        # out, that no count knows and that a server's limit does count. It has no public switch.
        session._retry_connection = False  # pyright: ignore[reportPrivateUsage]
        return session

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not None:
            where = "process" if self._pid != os.getpid() else "event loop"
            raise RuntimeError(
                f"this HilosSession was opened in another {where}; its connections cannot be used "
                f"here: make a HilosSession in each {where}"
            )
        self._loop, self._pid = loop, os.getpid()

    async def fetch(self, call: Call[Any], timeout: float) -> tuple[int, Mapping[str, str], bytes]:
        """Send the request once; status, headers and body of whatever was replied.

        ``timeout`` seconds bound the attempt with its body. An error status is returned even if its
        body could not be read. Raises ``TransportError``, ``AttemptTimeoutError``,
        ``ResponseTooLargeError`` or ``SessionClosedError``.
        """
        session = self._session
        if session is None or self.closed or self._given is not None:  # which others may close
            session = self.open()
        if call.sending is not None or call.is_stale:
            session = self._open_for(call, session)
        response: aiohttp.ClientResponse | None = None
        body = b""
        try:
            with self._deadlines.within(timeout):
                if call.sending is None:
                    url = self.base_url.with_path(self._prefix + call.path, encoded=True)
                    response = await session.get(url, **self._ask)
                else:
                    response = await self._send(session, call.path, call.sending)
                whole = _whole(response, call.bounds.max_response_bytes)
                body = await _body(response, call) if whole is None else whole
        except ResponseTooLargeError as error:
            del response  # here and below: a traceback that shows variables must not show a reply
            raise error.with_traceback(None) from None
        except TimeoutError as error:
            if self.closed:
                raise self.closed_error() from None
            if response is None or not _is_answer(response.status):
                response = None
                raise AttemptTimeoutError(
                    f"no complete reply to {call.path} within {timeout:.3g} s"
                ) from without_frames(error)
        except (aiohttp.ClientError, OSError) as error:
            has_begun, response = response is not None, None
            raise self._failure(error, call, has_begun, session) from self._without_key(error)
        except _Broken as broken:
            raise self._failure(broken.error, call, False, session) from self._without_key(
                broken.error
            )
        except asyncio.CancelledError:
            # A connector that is closed cancels who waits for a name or a connection, without any
            # cancellation of this task: to a task group it would look as if the task had been.
            task = asyncio.current_task()
            if session.closed and task is not None and not task.cancelling():
                raise self.closed_error() from None
            raise
        self._has_answered = True
        if 200 <= response.status < 300:
            return response.status, response.headers, body
        return response.status, self.plain(response.headers), self.without_key(body)

    async def _send(
        self, session: aiohttp.ClientSession, path: str, sending: Sending
    ) -> aiohttp.ClientResponse:
        url = self.base_url.with_path(self._prefix + path, encoded=True)
        if sending.query:
            url = url.with_query(sending.query)
        body = None if sending.body is None else _Body(sending)
        return await session.request(sending.method, url, data=body, **self._ask)

    async def _as_ours(
        self, request: aiohttp.ClientRequest, handler: ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Send a request of ours on a given session: with our key, and asked once."""
        if self._given is not None and self._given.trust_env:
            request.headers.pop("Authorization", None)  # out of a netrc file
        request.headers.update(self._headers)
        try:
            return await handler(request)
        except aiohttp.ClientError as error:
            if broke_before_reply(error):
                raise _Broken(error) from None
            raise

    def _failure(
        self,
        error: aiohttp.ClientError | OSError,
        call: Call[Any],
        has_begun: bool,
        session: aiohttp.ClientSession,
    ) -> HilosError:
        """The error of a request that broke, before its reply had begun or after."""
        if self.closed or session.closed:
            return self.closed_error()
        call.is_stale = not has_begun and self._was_kept(error, call.sent)
        return transport_error(error, call.path, self.base_url.origin(), self._key)

    def plain(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers with lower-case names, fields that came twice joined, and no key in them."""
        plain: dict[str, str] = {}
        for name, value in headers.items():
            shown = value.replace(self._key, "***")
            before = plain.get(name.lower())
            plain[name.lower()] = shown if before is None else f"{before}, {shown}"
        return plain

    def _was_kept(self, error: BaseException, sent: float) -> bool:
        """Whether a connection that had been kept open ended before a byte of a reply came.

        Servers close idle connections, and this side may notice only when it uses one: then the server
        has not seen the request.
        """
        if not broke_before_reply(error):
            return False
        if self._given is not None:  # it tells nobody about its connections
            return self._has_answered
        return _connected_at.get() < sent

    def without_key(self, body: bytes) -> bytes:
        """A body that nobody can show the key from: a server may echo it."""
        return body.replace(self._key.encode(), b"***")

    def _without_key(self, error: aiohttp.ClientError | OSError) -> BaseException | None:
        # A server that echoes the request as garbage puts the key into aiohttp's message, and a proxy
        # that refuses its password has it in its URL.
        told = f"{error} {error!r}"
        return None if self._key in told or CREDENTIALS.search(told) else without_frames(error)

    async def aclose(self) -> None:
        """End the attempts under way and close the aiohttp session, unless it was given."""
        self.closed = True
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            self._deadlines.expire()  # a connect does not notice that its session is closed
        ours = [
            session
            for session in (self._session, self._fresh)
            if session is not None and session is not self._given and not session.closed
        ]
        is_elsewhere = self._loop not in (None, loop) and not self._loop.is_closed()
        if ours and is_elsewhere:
            raise RuntimeError("close a HilosSession on the event loop that it was used on")
        for session in ours:
            await session.close()  # on a loop that has ended, it lets go of what it had


def _environment_proxy(url: URL) -> str | None:
    """The proxy that ``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY`` say for that URL."""
    if url.host is None or proxy_bypass(url.host):
        return None
    return getproxies().get(url.scheme)


def _is_answer(status: int) -> bool:
    """Whether a status says all that is needed, even if its body could not be read."""
    return status >= 300


def _whole(response: aiohttp.ClientResponse, max_bytes: int) -> bytes | None:
    """The body, if it came with the headers and plain, as most do; it is not copied."""
    content = response.content
    if (
        content.is_eof()
        and content.total_bytes <= max_bytes
        and "Content-Encoding" not in response.headers
    ):
        body = content.read_nowait()
        response.release()
        return body
    return None


async def _body(response: aiohttp.ClientResponse, call: Call[Any]) -> bytes:
    """The whole body; where the status is the answer, as much of it as could be read."""
    body = bytearray()
    try:
        await _read(response, body, call)
    except TimeoutError:
        raise
    except (aiohttp.ClientError, OSError, ResponseTooLargeError):
        if not _is_answer(response.status):
            raise
    return bytes(body)


async def _read(response: aiohttp.ClientResponse, body: bytearray, call: Call[Any]) -> None:
    """Read a body, unpacked, up to the bound; less than the whole closes the connection."""
    max_bytes = call.bounds.max_response_bytes
    content = response.content
    try:
        unpack = unpacker(response.headers.get("Content-Encoding", ""), max_bytes)
        while part := await content.readany():
            body += part if unpack is None else unpack(part, len(body))
            if len(body) > max_bytes:
                raise ResponseTooLargeError(
                    f"the reply to {call.path} is larger than {max_bytes:,} bytes; "
                    "an execution has a few thousand: is base_url right? (max_response_bytes=)",
                    limit=max_bytes,
                )
        if unpack is not None:
            unpack.finish()
    except BaseException:
        response.close()
        raise
    response.release()
