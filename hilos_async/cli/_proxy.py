"""The proxy that the environment names for a URL: HTTPS_PROXY, HTTP_PROXY, NO_PROXY.

aiohttp would read the same variables with ``trust_env``, and a .netrc with them, whose password does
not belong to this API. So the variables are read here, and the proxy is given by its URL.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from typing import Final
from urllib import request

from yarl import URL

from hilos_async.cli._show import USAGE, CommandError

_SCHEMES: Final = ("http", "https")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy to use (``None`` where one is named, and does not count for the URL), and who says so."""

    url: str | None
    named_by: str

    @property
    def shown(self) -> str:
        """In words, without a password."""
        if self.url is None:
            return f"no proxy (NO_PROXY names the host; {self.named_by} is set)"
        return f"the proxy {URL(self.url).origin()} (from {self.named_by})"


def for_url(url: URL) -> Proxy | None:
    """What the environment says about requests to that URL; ``None`` if it names no proxy for it.

    ``CommandError`` for a proxy that cannot be used. This machine itself is asked without one.
    """
    host = url.host or ""
    given = request.getproxies().get(url.scheme)
    if not given or _is_this_machine(host):
        return None
    names = (f"{url.scheme}_proxy", f"{url.scheme.upper()}_PROXY")
    named_by = next((name for name in names if os.environ.get(name)), "the system's settings")
    if request.proxy_bypass(f"{host}:{url.port}"):
        return Proxy(None, named_by)
    text = given.strip()
    try:
        proxy = URL(text if "://" in text else f"http://{text}")  # as curl reads it
        is_usable = proxy.scheme in _SCHEMES and bool(proxy.host) and proxy.port is not None
    except ValueError:
        is_usable = False
        proxy = URL()
    if not is_usable:  # not repeated: it may hold a password
        raise CommandError(
            f"{named_by} names no HTTP proxy; one looks like http://proxy.example:3128", USAGE
        )
    return Proxy(str(proxy), named_by)


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
