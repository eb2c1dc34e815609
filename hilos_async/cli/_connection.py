"""From options and environment to a session: whom to ask, with which key, and who said so.

Knows the options that asking commands have, and the order in which they and the
environment count. Refuses to take a key from the command line, and to print one.
"""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NoReturn, Unpack

from hilos_async import _checks
from hilos_async._pace.pacer import RateLimit
from hilos_async._wire import address
from hilos_async._wire.options import SHARED
from hilos_async.cli import _proxy
from hilos_async.cli._show import USAGE, CommandError
from hilos_async.session import HilosSession

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hilos_async._wire.options import Options


_UNITS: Final = {"s": 1.0, "min": 60.0, "h": 3_600.0, "day": 86_400.0}
_WORDS: Final[dict[str, Literal["learn", "machine", "off"]]] = {
    "learn": "learn",
    "machine": "machine",
    "off": "off",
}
_RATE: Final = re.compile(
    r"(?P<requests>\d{1,9}(?:\.\d{1,6})?)(?:/(?P<unit>s|min|h|day))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Connection:
    """A session that is not open yet, and which variable or option each part came from."""

    session: HilosSession
    url: str
    url_from: str
    key_from: str
    proxy: _proxy.Proxy | None = None


def configure(parser: argparse.ArgumentParser) -> None:
    """Give a command the options that say whom to ask and for how long."""
    parser.add_argument(
        "--base-url",
        metavar="URL",
        help="what every request begins with, e.g. https://api.hilos.io/api (the default)",
    )
    parser.add_argument(
        "--account", metavar="NAME", help="an ActiveCampaign account: acme for acme.api-us1.com"
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        help="for the whole command, waiting included",
    )
    parser.add_argument(
        "--token", "--key", "--api-key", nargs="?", action=_NoKeyHere, help=argparse.SUPPRESS
    )


def configure_pace(parser: argparse.ArgumentParser) -> None:
    """Give a command that asks much the options that say how fast."""
    parser.add_argument(
        "--pace",
        type=_pace,
        metavar="RATE|machine|learn|off",
        help="at most so many requests: 5 or 5/s, 600/min, 1000/h; machine shares 5/s for "
        "ActiveCampaign, else what is found out, with all that runs on this machine (the default); "
        "learn finds the limit out for this command alone",
    )
    parser.add_argument(
        "--max-concurrency",
        type=whole,
        default=50,
        metavar="N",
        help="at most so many requests at once (default: 50)",
    )


def connect(
    options: argparse.Namespace,
    *,
    pace: RateLimit | Literal["learn", "machine", "off"] | None = None,
    **session_options: Unpack[Options],
) -> Connection:
    """Make the session that options and environment describe; nothing is sent.

    Raises ``CommandError`` that says what was wrong, and where it came from.
    """
    base_url: str | None = options.base_url
    account: str | None = options.account
    url_from = _url_from(base_url, account)
    try:
        url = address.resolve_base_url(account, base_url, allow_http=False)
    except ValueError as error:
        raise CommandError(f"{error} (it came from {url_from})", USAGE) from error
    key_from = "HILOS_API_TOKEN"
    if os.environ.get("HILOS_API_KEY") or not os.environ.get(key_from):
        key_from = "HILOS_API_KEY"
    try:
        key = address.api_key(None)
    except ValueError as error:  # its advice is for programs
        problem = str(error).partition(":")[0]
        raise CommandError(
            f"{problem}: make one on the app's page dev/api-keys and set {key_from}", USAGE
        ) from error
    proxy = _proxy.for_url(url)
    session = HilosSession(
        key,
        base_url=str(url),
        pace=pace or SHARED,
        proxy=proxy.url if proxy else None,
        **session_options,
    )
    return Connection(session, str(url), url_from, key_from, proxy)


def _url_from(base_url: str | None, account: str | None) -> str:
    if base_url is not None:
        return "--base-url"
    if account is not None:
        return "--account"
    variables = ("HILOS_BASE_URL", "HILOS_ACCOUNT")
    default = "the default, as no option and no variable names another"
    return next((name for name in variables if name in os.environ), default)


def seconds(text: str) -> float:
    """The seconds that an option is given: a number above 0."""
    try:
        return _checks.positive("seconds", float(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number of seconds") from None


def _pace(text: str) -> RateLimit | Literal["learn", "machine", "off"]:
    if text in _WORDS:
        return _WORDS[text]
    found = _RATE.fullmatch(text)
    if found is not None and float(found["requests"]) > 0:
        return RateLimit(float(found["requests"]), per=_UNITS[found["unit"] or "s"])
    raise argparse.ArgumentTypeError(
        f"{text!r} is no pace: 5, 5/s, 600/min, 1000/h, machine, learn or off"
    )


def whole(text: str) -> int:
    """The number that an option is given: a whole one of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


class _NoKeyHere(argparse.Action):
    """Refuses a key as an argument, and does not repeat it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        option_string: str | None = None,
    ) -> NoReturn:
        parser.error(
            f"{option_string} is no option: a key on the command line stays in the shell's history "
            "and shows in the list of processes; set HILOS_API_KEY"
        )
