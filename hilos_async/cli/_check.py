"""``hilos check``: is my key right, is my URL right, in plain words.

Knows what each outcome of one lookup says about key and URL. It asks for an execution that cannot
exist, so the answer of an API that is well is a 404 in the API's own words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from hilos_async._wire.retry import RetryPolicy
from hilos_async.cli import _interrupt, _meter, _show
from hilos_async.cli._connection import Connection, connect
from hilos_async.cli._show import REFUSED, UNREACHABLE
from hilos_async.errors import (
    AuthenticationError,
    DeadlineExceededError,
    HilosError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    StatusError,
    TransportError,
)

if TYPE_CHECKING:
    import argparse

    from hilos_async.session import HilosSession

SUMMARY = "say whether the key and the URL are right"
DESCRIPTION = """\
Say whether the key and the URL are right: ask the API for an execution that cannot exist, and judge
how it says no."""

_NOBODY = UUID(int=0)
_TIMEOUT = 20.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add nothing: it takes what every asking command takes."""


def run(options: argparse.Namespace) -> int:
    """Ask once, print the verdict, and give it as exit code."""
    connection = connect(options, retry=RetryPolicy(attempts=2), attempt_timeout=10.0)
    _show.paragraph("URL  ", f"{connection.url} (from {connection.url_from})")
    _show.paragraph("key  ", f"from {connection.key_from}")
    if connection.proxy is not None:
        _show.paragraph("via  ", connection.proxy.shown)
    error = _interrupt.run(_ask(connection.session, options.timeout or _TIMEOUT))
    code, words = verdict(error, connection)
    _show.paragraph("bad  " if code else "good ", words)
    return code


async def _ask(session: HilosSession, timeout: float) -> HilosError | None:
    async with session as hilos:
        with _meter.Meter(1, hilos):
            try:
                await hilos.get_execution(_NOBODY, timeout=timeout)
            except HilosError as error:
                return error
    return None


def verdict(error: HilosError | None, connection: Connection) -> tuple[int, str]:
    """The exit code and the words for what came back; ``None`` is an execution."""
    if isinstance(error, DeadlineExceededError) and isinstance(error.__cause__, HilosError):
        error = error.__cause__
    is_it_right = f"Is the URL (from {connection.url_from}) right"
    online = "this machine online"
    if connection.proxy is not None and connection.proxy.url is not None:
        online = f"the proxy (from {connection.proxy.named_by})"
    match error:
        case None:
            return 0, "The API is there and takes the key."
        # Only the API's own 404 has words in JSON: any web server has a page for what it lacks.
        case NotFoundError(detail=detail) if detail:
            return 0, "The API is there and takes the key."
        case NotFoundError():
            return UNREACHABLE, (
                "Something answers there, but it has no flow-execution (404, and not in the API's "
                f"words). {is_it_right}? It ends where /flow-execution begins."
            )
        case AuthenticationError(detail=detail):
            return REFUSED, (
                f"The API refuses the key in {connection.key_from} (401: {detail or 'no reason given'})."
                " Keys are made on the app's page dev/api-keys; each belongs to one account, and to "
                "that account's URL."
            )
        case PermissionDeniedError(detail=detail):
            return REFUSED, (
                f"The API is there, but the key in {connection.key_from} may not read executions "
                f"(403: {detail or 'no reason given'})."
            )
        case RateLimitError():
            return UNREACHABLE, (
                "The API is there, but asks to wait (429): the account has sent more requests than it "
                "may. Try again later; of the key nothing is known yet."
            )
        case StatusError(status=status) if status >= 500:
            return UNREACHABLE, f"A server is there, but fails ({status}). Try again later."
        case TransportError() | DeadlineExceededError():
            return UNREACHABLE, (
                f"No usable answer from there. {is_it_right}, and {online}?\n{error}"
            )
        case _:
            return (
                UNREACHABLE,
                f"Something answers there, but not this API. {is_it_right}?\n{error}",
            )
