"""Whom to ask, and with which key: the base URL, the account, the header that carries the key.

What the caller or the environment gives is checked here, before any I/O. An error says what was given
and what would do; it never shows the key.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from typing import Final, Literal, get_args

from yarl import URL

NATIVE_URL: Final = "https://api.hilos.io/api"
ACTIVECAMPAIGN_URL: Final = "https://{account}.api-us1.com/api/3/channel/whatsapp"
_ACTIVECAMPAIGN_HOST: Final = ".api-us1.com"
_ACTIVECAMPAIGN_PATH: Final = "/api/3/channel/whatsapp"

Deployment = Literal["activecampaign", "native"]

_WHERE_KEYS_ARE = (
    "make one on the app's page dev/api-keys and pass it as token= or set HILOS_API_KEY"
)
_ACCOUNT = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Headers that frame the request or name its target: a key in one of them breaks the request.
_RESERVED_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "cookie", "accept", "user-agent"}
)


class Secret(str):
    """A header value that prints as ``'***'``: logs, reprs and tracebacks with locals show no key."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a key is not pickled: read it from the environment on the other side")


def api_key(token: object) -> Secret:
    """The bare key, from the argument or the environment, without what people paste around it."""
    if token is None:
        token = os.environ.get("HILOS_API_KEY") or os.environ.get("HILOS_API_TOKEN")
        if token is None:
            raise ValueError(f"no API key: {_WHERE_KEYS_ARE}")
    if not isinstance(token, str):
        raise TypeError(f"token must be a str, not {type(token).__name__}: {_WHERE_KEYS_ARE}")
    key = token.strip()
    if key[:6].lower() == "token ":  # pasted with the header's prefix
        key = key[6:].lstrip()
    if not key or key.lower() == "token":
        raise ValueError(f"the API key is empty: {_WHERE_KEYS_ARE}")
    if not key.isascii():
        raise ValueError(f"the API key has non-ASCII characters: {_WHERE_KEYS_ARE}")
    if any(not "!" <= character <= "~" for character in key):
        raise ValueError(f"the API key has white space or control characters: {_WHERE_KEYS_ARE}")
    return Secret(key)


def auth_headers(key: Secret, auth_header: object) -> dict[str, str]:
    """The one header that carries the key, in the form that header wants."""
    if not isinstance(auth_header, str) or not _HEADER_NAME.fullmatch(auth_header):
        raise ValueError(
            f"auth_header={auth_header!r} is no header name; 'Authorization', 'Token' or 'Api-Token'"
        )
    if auth_header.lower() in _RESERVED_HEADERS:
        raise ValueError(
            f"auth_header={auth_header!r} has another meaning in HTTP; "
            "'Authorization', 'Token' or 'Api-Token' can carry the key"
        )
    # ActiveCampaign's other v3 endpoints read a bare key from Api-Token; everything else wants the
    # prefix that Django REST Framework's TokenAuthentication is named after.
    bare = auth_header.lower() == "api-token"
    return {auth_header: key if bare else Secret(f"Token {key}")}


def resolve_base_url(account: object, base_url: object, allow_http: bool) -> URL:
    """The full prefix of every request: ``base_url``, else the account's, else the native host's."""
    if base_url is None:
        # Empty in the environment is unset: env files and compose files write it so.
        base_url = (os.environ.get("HILOS_BASE_URL") or None) if account is None else None
    if base_url is not None:
        return _checked_url(base_url, allow_http)
    account = (os.environ.get("HILOS_ACCOUNT") or None) if account is None else account
    if account is None:
        return URL(NATIVE_URL)
    if not isinstance(account, str) or not _ACCOUNT.fullmatch(account):
        raise ValueError(
            f"account={account!r} is no account name; for https://acme.api-us1.com it is 'acme'"
        )
    return URL(ACTIVECAMPAIGN_URL.format(account=account.lower()))


def _checked_url(base_url: object, allow_http: bool) -> URL:
    if not isinstance(base_url, str):
        raise TypeError(f"base_url must be a str, not {type(base_url).__name__}")
    # What stands before an @ may be a password: do not repeat it.
    shown = re.sub(r"//[^/?#]*@", "//***@", base_url.strip())
    want = f"a base URL is a full prefix such as {NATIVE_URL!r}"
    try:
        url = URL(base_url.strip())
    except ValueError as error:
        raise ValueError(f"base_url={shown!r} is no URL ({error}); {want}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"base_url={shown!r} needs http or https and a host; {want}")
    if url.user is not None or url.password is not None:
        raise ValueError(f"base_url={shown!r} holds credentials; the key goes into token=")
    if url.query_string or url.fragment or base_url.rstrip()[-1] in "?#":
        raise ValueError(f"base_url={shown!r} has a query or a fragment; {want}")
    if url.scheme == "http" and not allow_http and not _is_loopback(url.host):
        raise ValueError(
            f"base_url={shown!r} would send the key unencrypted; "
            "use https, or allow_http=True if the network is your own"
        )
    return url.with_path(url.path.rstrip("/"))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def scope(url: URL, key: Secret) -> str:
    """A digest of base URL and key, to tell budgets apart where neither may be shown."""
    return hashlib.blake2b(f"{url}\0{key}".encode(), digest_size=12).hexdigest()


def is_activecampaign(url: URL) -> bool:
    """Whether the host is one of ActiveCampaign's, whose limit is documented."""
    return (url.host or "").endswith(_ACTIVECAMPAIGN_HOST)


def deployment_of(url: URL, given: Deployment | None) -> Deployment | None:
    """Which of the API's two deployments a URL leads to; ``None`` if neither it nor anybody says."""
    if given is not None and given not in get_args(Deployment):
        raise ValueError(f"deployment={given!r} is none; it is 'activecampaign' or 'native'")
    if given is not None:
        return given
    if is_activecampaign(url) or url.path.endswith(_ACTIVECAMPAIGN_PATH):
        return "activecampaign"
    return "native" if url.host == URL(NATIVE_URL).host else None
