"""One attempt over aiohttp: connect, headers and body, or an error of ours.

Knows the key, the base URL and the aiohttp session. Refuses to know retries, paces and models.
aiohttp's errors become ours here and nowhere else.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import zlib
from typing import TYPE_CHECKING, Final

import aiohttp

from hilos_async._wire.deadlines import Deadlines
from hilos_async.errors import (
    AttemptTimeoutError,
    ResponseTooLargeError,
    SessionClosedError,
    TransportError,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace
    from yarl import URL

    from hilos_async._wire.address import Secret

# The session bounds the attempt itself: aiohttp's total would start while waiting for a connection.
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=None, sock_read=None)
_RECEIVE_BYTES: Final = 65_536
# Name lookups that will not get better by asking again; c-ares, if aiodns is there, has codes of
# its own: 1 is ENODATA, 4 is ENOTFOUND.
_UNKNOWN_HOST: Final = frozenset(
    code
    for name in ("EAI_NONAME", "EAI_NODATA", "EAI_FAIL")
    if (code := getattr(socket, name, None)) is not None
)
_CREDENTIALS: Final = re.compile(r"//[^/\s]+@")
_ARES_UNKNOWN_HOST: Final = frozenset({1, 4})


class _Connector(aiohttp.TCPConnector):
    """Connections that receive into less memory.

    asyncio allocates 256 KiB for each receive from a plain socket and gives nearly all of it back: for
    a reply of a few kilobytes, a tenth of the CPU time. Over TLS and under uvloop it does not.
    """

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        if hasattr(connection.transport, "max_size"):  # asyncio's own, of a plain socket
            setattr(connection.transport, "max_size", _RECEIVE_BYTES)  # noqa: B010 - undeclared
        return connection


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
        ssl: ssl.SSLContext | bool,
        trust_env: bool,
        trace_configs: Sequence[aiohttp.TraceConfig],
    ) -> None:
        self.base_url = base_url
        self._executions = base_url / "flow-execution"  # no trailing slash after the id: 404
        self._key = key
        self._headers = headers
        # aiohttp sends a session's own headers to the proxy too, and the key among them as its password.
        self._on_request = session is not None or proxy is not None or trust_env
        self._given = session is not None
        self._session = session
        self._proxy = proxy
        self._ssl = ssl
        self._trust_env = trust_env
        self._trace_configs = list(trace_configs)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._deadlines = Deadlines()
        self.closed = False

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
            self._session = aiohttp.ClientSession(
                connector=_Connector(limit=0),  # the gate bounds the connections
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=None if self._on_request else self._headers,  # merged once
                trust_env=self._trust_env,
                trace_configs=self._trace_configs,
            )
            # aiohttp asks a GET again by itself when a connection breaks: a request that no pace let
            # out, that no count knows and that a server's limit does count. It has no public switch.
            self._session._retry_connection = False  # pyright: ignore[reportPrivateUsage]
        elif self._session.closed:
            raise self.closed_error()
        return self._session

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not None:
            where = "process" if self._pid != os.getpid() else "event loop"
            raise RuntimeError(
                f"this HilosSession was opened in another {where}; its connections cannot be used "
                f"here: make a HilosSession in each {where}"
            )
        self._loop, self._pid = loop, os.getpid()

    async def fetch(
        self, execution_id: UUID, timeout: float, max_bytes: int
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Ask for one execution once; status, headers and body of whatever was replied.

        ``timeout`` seconds bound the attempt with its body. Raises ``TransportError``,
        ``AttemptTimeoutError``, ``ResponseTooLargeError`` or ``SessionClosedError``.
        """
        session = self.open()
        try:
            with self._deadlines.within(timeout):
                response, body = await self._exchange(session, execution_id, max_bytes)
        except ResponseTooLargeError as error:
            raise error.with_traceback(None) from None  # its frames show what the server has sent
        except TimeoutError as error:
            if self.closed:
                raise self.closed_error() from None
            raise AttemptTimeoutError(
                f"no complete reply to flow-execution/{execution_id} within {timeout:.3g} s"
            ) from _without_frames(error)
        except (aiohttp.ClientError, OSError) as error:
            if self.closed or session.closed:
                raise self.closed_error() from self._without_key(error)
            raise self._transport_error(error, execution_id) from self._without_key(error)
        except asyncio.CancelledError:
            # A connector that is closed cancels who waits for a name or a connection, without any
            # cancellation of this task: to a task group it would look as if the task had been.
            task = asyncio.current_task()
            if session.closed and task is not None and not task.cancelling():
                raise self.closed_error() from None
            raise
        if 200 <= response.status < 300:
            return response.status, response.headers, body
        headers = response.headers.items()
        kept = {name.lower(): value.replace(self._key, "***") for name, value in headers}
        return response.status, kept, self.without_key(body)

    async def _exchange(
        self, session: aiohttp.ClientSession, execution_id: UUID, max_bytes: int
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        response = await session.get(
            self._executions.joinpath(str(execution_id), encoded=True),
            headers=self._headers if self._on_request else None,
            allow_redirects=False,  # aiohttp would send a key in another header along
            raise_for_status=False,  # a session we were given may have it on
            timeout=_NO_TIMEOUT,
            auto_decompress=False,  # it would not notice a body that ends too early
            proxy=self._proxy,
            ssl=self._ssl,
        )
        body = _whole(response, max_bytes)
        if body is None:
            body = await _read(response, execution_id, max_bytes)
        return response, body

    def without_key(self, body: bytes) -> bytes:
        """A body that nobody can show the key from: a server may echo it."""
        return body.replace(self._key.encode(), b"***")

    async def aclose(self) -> None:
        """End the attempts under way and close the aiohttp session, unless it was given."""
        self.closed = True
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            self._deadlines.expire()  # a connect does not notice that its session is closed
        if self._session is None or self._given or self._session.closed:
            return
        if self._loop is not loop:
            raise RuntimeError("close a HilosSession on the event loop that it was used on")
        await self._session.close()

    def _transport_error(
        self, error: aiohttp.ClientError | OSError, execution_id: UUID
    ) -> TransportError:
        origin = self.base_url.origin()
        words = str(error).replace(self._key, "***") or type(error).__name__
        words = _CREDENTIALS.sub("//***@", words)
        what = f"no usable reply to flow-execution/{execution_id} from {origin}: {words}"
        if isinstance(
            error, (aiohttp.ClientConnectorCertificateError, aiohttp.ServerFingerprintMismatch)
        ):
            return TransportError(
                f"{what}; the TLS certificate of {origin.host} was refused: pass ssl= with the right "
                "authority, or set SSL_CERT_FILE",
                transient=False,
            )
        if isinstance(error, aiohttp.ClientConnectorDNSError) and _is_unknown_host(error):
            return TransportError(
                f"{what}; the host {origin.host} is unknown: check base_url or account",
                transient=False,
            )
        if isinstance(error, aiohttp.ClientHttpProxyError) and error.status < 500:
            return TransportError(f"{what}; the proxy refused the request", transient=False)
        return TransportError(what)

    def _without_key(self, error: aiohttp.ClientError | OSError) -> BaseException | None:
        # A server that echoes the request as garbage puts the key into aiohttp's message, and a proxy
        # that refuses its password has it in its URL.
        told = f"{error} {error!r}"
        is_secret = self._key in told or _CREDENTIALS.search(told)
        return None if is_secret else _without_frames(error)


def _without_frames(error: BaseException) -> BaseException:
    """The error and its causes without tracebacks: their frames show what the server has sent."""
    cause: BaseException | None = error
    while cause is not None:
        cause.__traceback__ = None
        cause = cause.__cause__ or cause.__context__
    return error


def _is_unknown_host(error: aiohttp.ClientConnectorDNSError) -> bool:
    found = error.os_error
    if found.errno is not None:
        return found.errno in _UNKNOWN_HOST
    cause = found.__cause__
    return cause is not None and bool(cause.args) and cause.args[0] in _ARES_UNKNOWN_HOST


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


async def _read(response: aiohttp.ClientResponse, execution_id: UUID, max_bytes: int) -> bytes:
    """The whole body, unpacked, up to the bound; less than the whole closes the connection."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    body = bytearray()
    content = response.content
    try:
        unpack = _Unpack(encoding, max_bytes) if encoding != "identity" else None
        while part := await content.readany():
            body += part if unpack is None else unpack(part, len(body))
            if len(body) > max_bytes:
                raise ResponseTooLargeError(
                    f"the reply to flow-execution/{execution_id} is larger than {max_bytes:,} bytes; "
                    "an execution has a few thousand: is base_url right? (max_response_bytes=)",
                    limit=max_bytes,
                )
        if unpack is not None:
            unpack.finish()
    except BaseException:
        response.close()
        raise
    response.release()
    return bytes(body)


class _Unpack:
    """Unpacks gzip and deflate piece by piece, never more than one byte over the bound."""

    def __init__(self, encoding: str, max_bytes: int) -> None:
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise aiohttp.ClientPayloadError(f"Content-Encoding {encoding!r} was not asked for")
        self._is_deflate = encoding == "deflate"
        self._zlib = zlib.decompressobj()
        self._has_begun = False
        self._max_bytes = max_bytes

    def __call__(self, part: bytes, so_far: int) -> bytes:
        unpacked = b""
        try:
            while part and so_far + len(unpacked) <= self._max_bytes:
                if not self._has_begun or self._zlib.eof:  # gzip may have several members
                    self._zlib = zlib.decompressobj(wbits=self._wbits(part[0]))
                    self._has_begun = True
                unpacked += self._zlib.decompress(
                    part, self._max_bytes + 1 - so_far - len(unpacked)
                )
                part = self._zlib.unused_data
            return unpacked
        except zlib.error as error:
            raise aiohttp.ClientPayloadError(f"the compressed body is corrupt: {error}") from error

    def _wbits(self, first: int) -> int:
        # Some servers send deflate without the zlib header that RFC 9110 wants.
        if self._is_deflate and first & 0xF != 8:
            return -zlib.MAX_WBITS
        return zlib.MAX_WBITS | 32  # gzip or zlib, as it begins

    def finish(self) -> None:
        """Raise unless the compressed body, if there was one, has come to its end."""
        if self._has_begun and not self._zlib.eof:
            raise aiohttp.ClientPayloadError("the compressed body ends too early")
