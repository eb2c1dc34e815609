"""aiohttp's errors in this library's words: what failed, whether asking again can help, what to do."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Final

import aiohttp

from hilos_async.errors import TransportError

if TYPE_CHECKING:
    from yarl import URL

# Name lookups that will not get better by asking again; c-ares, if aiodns is there, has codes of
# its own: 1 is ENODATA, 4 is ENOTFOUND.
_UNKNOWN_HOST: Final = frozenset(
    code
    for name in ("EAI_NONAME", "EAI_NODATA", "EAI_FAIL")
    if (code := getattr(socket, name, None)) is not None
)
CREDENTIALS: Final = re.compile(r"//[^/\s]+@")  # of a proxy's URL
_ARES_UNKNOWN_HOST: Final = frozenset({1, 4})


def transport_error(
    error: aiohttp.ClientError | OSError, path: str, origin: URL, key: str
) -> TransportError:
    """The error of a request that got no usable reply. A server may echo the key: it is cut out."""
    words = str(error).replace(key, "***") or type(error).__name__
    words = CREDENTIALS.sub("//***@", words)
    what = f"no usable reply to {path} from {origin}: {words}"
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


def broke_before_reply(error: BaseException) -> bool:
    """Whether a connection that stood ended before a byte of a reply came."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return isinstance(error.message, str)  # otherwise it is the part of a reply that came
    return isinstance(error, aiohttp.ClientOSError) and not isinstance(
        error, aiohttp.ClientConnectorError
    )


def without_frames(error: BaseException) -> BaseException:
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
