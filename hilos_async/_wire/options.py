"""What the arguments of a session mean: checked bounds, the pacer, the number of connections.

Knows every option and which may be changed later. Refuses to know what is done with them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from ssl import SSLContext
from typing import Final, Literal, TypedDict, cast

import aiohttp
from yarl import URL

from hilos_async import _checks
from hilos_async._pace.known import KnownPacer
from hilos_async._pace.learning import LearningPacer
from hilos_async._pace.pacer import Pacer, RateLimit
from hilos_async._wire import address
from hilos_async._wire.retry import RetryPolicy

# ActiveCampaign documents 5 requests per second for an account, all its integrations together.
_ACTIVECAMPAIGN_LIMIT: Final = RateLimit(5)


class Options(TypedDict, total=False):
    """What ``with_options`` can change; the meaning is that of ``HilosSession``'s arguments."""

    timeout: float | None
    attempt_timeout: float
    retry: RetryPolicy
    max_concurrency: int
    max_response_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The checked options of a session, with the meaning of its arguments."""

    timeout: float | None
    attempt_timeout: float
    retry: RetryPolicy
    max_concurrency: int
    max_response_bytes: int

    def __post_init__(self) -> None:
        _checks.seconds("timeout", self.timeout)
        _checks.positive("attempt_timeout", self.attempt_timeout)
        _checks.instance("retry", self.retry, RetryPolicy)
        _checks.whole("max_concurrency", self.max_concurrency)
        _checks.whole("max_response_bytes", self.max_response_bytes)


# For commands and web apps, whose processes share a machine; elsewhere there is no such pace.
SHARED: Final[Literal["machine"] | None] = "machine" if os.name == "posix" else None


def pacer_for(
    pace: RateLimit | Pacer | Literal["learn", "machine", "off"] | None, url: URL
) -> Pacer:
    """The pacer that an argument stands for; ``TypeError`` for what is none."""
    if pace == "machine":
        from hilos_async._pace.machine import MachinePacer  # not everywhere

        return MachinePacer(_ACTIVECAMPAIGN_LIMIT if address.is_activecampaign(url) else None)
    if pace is None:
        pace = _ACTIVECAMPAIGN_LIMIT if address.is_activecampaign(url) else "learn"
    if pace == "learn":
        return LearningPacer()
    if pace == "off":
        return KnownPacer(None)
    if isinstance(pace, RateLimit):
        return KnownPacer(pace)
    needed = ("bind", "reserve", "sent", "report", "flush", "pace", "paused_until")
    missing = [name for name in needed if not hasattr(pace, name)]
    if missing or isinstance(pace, type):
        lacks = f"it has no {', '.join(missing)}" if missing else "it is a class: make one"
        raise TypeError(
            f"pace={pace!r} is no pace: RateLimit(5), 'learn', 'machine', 'off', or a Pacer ({lacks})"
        )
    return pace


def check_connections(
    session: object, proxy: object, ssl: object, trust_env: object, trace_configs: object
) -> None:
    """Refuse what aiohttp would only refuse, or misread, once a request is sent."""
    _check_proxy(proxy)
    _checks.instance("trust_env", trust_env, bool)
    _checks.instance("trace_configs", trace_configs, Sequence)
    assert isinstance(trace_configs, Sequence)
    if ssl is not None and not isinstance(ssl, (bool, SSLContext, aiohttp.Fingerprint)):
        raise TypeError(
            f"ssl must be an ssl.SSLContext, False or an aiohttp.Fingerprint, not {type(ssl).__name__}"
        )
    for config in cast("Sequence[object]", trace_configs):
        _checks.instance("each of trace_configs", config, aiohttp.TraceConfig)
    if session is None:
        return
    _checks.instance("session", session, aiohttp.ClientSession)
    assert isinstance(session, aiohttp.ClientSession)
    if trust_env or trace_configs:
        raise ValueError(
            "trust_env and trace_configs belong to an aiohttp session: set them on the one given"
        )
    if session.auth is not None:
        raise ValueError(
            "the aiohttp session has auth=, which would take the place of the API key: give one "
            "without it"
        )
    if session.trust_env and "Authorization" in session.headers:
        raise ValueError(
            "the aiohttp session has trust_env and an Authorization header of its own: aiohttp fails "
            "over the two where a netrc file names the host; give one without the one or the other"
        )


def _check_proxy(proxy: object) -> None:
    if proxy is None:
        return
    if not isinstance(proxy, (str, URL)):
        raise TypeError(f"proxy must be a str, not {type(proxy).__name__}")
    try:
        url = URL(proxy)
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        # What stands before an @ may be a password: do not repeat it.
        shown = re.sub(r"^(\w+://)?[^/@]*@", r"\1***@", str(proxy))
        raise ValueError(
            f"proxy={shown!r} needs http or https and a host; one is 'http://localhost:3128'"
        )


def connections(max_concurrency: int, session: aiohttp.ClientSession | None) -> int:
    """How many requests may be under way: no more than a given session has connections for.

    Otherwise they would wait for a connection inside the attempt, and its clock would run.
    """
    connector = session.connector if session is not None else None
    limits = [max_concurrency]
    if connector is not None:
        limits += [limit for limit in (connector.limit, connector.limit_per_host) if limit]
    return min(limits)
