"""What the library says while it works: the logger `hilos_async` and its structured records.

Knows every event, its level and its fields. Refuses to know the words of a server: status codes and
names of errors are told, bodies and messages are not, for they may hold anything. Silent until an
application, or HILOS_LOG, wants to hear it.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import warnings
from typing import TYPE_CHECKING, Final, Protocol

from hilos_async.errors import HilosError, StatusError

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

logger: Final = logging.getLogger("hilos_async")
logger.addHandler(logging.NullHandler())

_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO}


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]  # generic for type checkers alone
    """Shows the records, unless handlers of the application get them as well."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr  # as it is now: what was redirected may be closed
        theirs = [*logger.handlers, *(logging.getLogger().handlers if logger.propagate else ())]
        if all(isinstance(handler, (_Stderr, logging.NullHandler)) for handler in theirs):
            super().emit(record)


def obey_environment() -> None:
    """Show the records on stderr if HILOS_LOG asks for it; a value that means nothing is told."""
    wanted = os.environ.get("HILOS_LOG", "").strip()
    if not wanted:
        return
    level = _LEVELS.get(wanted.lower())
    if level is None:
        warnings.warn(f"HILOS_LOG={wanted!r} is neither 'debug' nor 'info': ignored", stacklevel=3)
        return
    logger.setLevel(level)
    for name in list(logging.root.manager.loggerDict):
        if f"{name}.".startswith("hilos_async."):  # dictConfig disables whatever it does not name
            logging.getLogger(name).disabled = False
    if not any(isinstance(handler, _Stderr) for handler in logger.handlers):
        handler = _Stderr()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger.addHandler(handler)


def retry(path: str, id: UUID | None, attempt: int, delay: float, error: HilosError | None) -> None:
    """A request is sent again after so many seconds; 0: as soon as the pace allows."""
    if not logger.isEnabledFor(logging.INFO):
        return
    when = f"in {delay:.2f} s" if delay else "as soon as the pace allows"
    _tell(
        logging.INFO,
        "retry",
        f"{path}: attempt {attempt} ended in {_name(error)}; again {when}",
        execution_id=_text(id),
        attempt=attempt,
        delay=delay,
        error=type(error).__name__,
        status=_status(error),
    )


def paused(delay: float, error: HilosError | None) -> None:
    """Nothing leaves the session for so many seconds; ``error`` is what began it, if it was seen."""
    retry_after = error.retry_after if isinstance(error, StatusError) else None
    asked = "" if retry_after is None else f", Retry-After {retry_after:g} s"
    _tell(
        logging.INFO,
        "pause",
        f"paused for {delay:.2f} s" + (f": {_name(error)}{asked}" if error else ""),
        delay=delay,
        error=None if error is None else type(error).__name__,
        status=_status(error),
        retry_after=retry_after,
    )


def server_down(failures: int) -> None:
    """So many requests in a row have failed."""
    _tell(
        logging.WARNING,
        "server_down",
        f"{failures} requests in a row have failed: the server seems to be down, and is asked one "
        "request at a time until it answers",
        failures=failures,
    )


def key_refused(path: str, id: UUID | None, error: StatusError) -> None:
    """The API does not take the key."""
    _tell(
        logging.WARNING,
        "key_refused",
        f"the API refused the key ({error.status} for {path}): check HILOS_API_KEY or token=",
        execution_id=_text(id),
        status=error.status,
    )


def run_abandoned(flow_id: UUID, sent_at: datetime) -> None:
    """A run was cancelled after sending had begun."""
    since = sent_at.isoformat(timespec="seconds")
    _tell(
        logging.WARNING,
        "run_abandoned",
        f"the run of flow {flow_id} was cancelled while it was sent and may have started: "
        f"list_executions(flow=...) shows an execution created since {since} if it has",
        flow_id=str(flow_id),
        sent_at=sent_at.isoformat(),
    )


def forbidden(path: str, id: UUID | None) -> None:
    """The API answers 403, although it took the same key before."""
    _tell(
        logging.WARNING,
        "forbidden",
        f"403 for {path}, although the key was accepted before: if more follow, something in front of "
        "the API may take the requests for too many",
        execution_id=_text(id),
        status=403,
    )


def request(
    path: str, id: UUID | None, attempt: int, seconds: float, came: int | HilosError | None
) -> None:
    """A request has ended: in a status, in an error, or cancelled."""
    status = came if isinstance(came, int) else _status(came)
    error = None if isinstance(came, int) else "cancelled" if came is None else type(came).__name__
    _tell(
        logging.DEBUG,
        "request",
        f"{path}: {status or error} in {seconds:.3f} s",
        execution_id=_text(id),
        attempt=attempt,
        seconds=seconds,
        status=status,
        error=error,
    )


def outage(error: BaseException) -> None:
    """The Redis of a RedisPacer is gone."""
    name = type(error).__name__
    _tell(logging.WARNING, "redis_gone", f"Redis does not answer ({name})", error=name)


def outage_over() -> None:
    """It answers again."""
    _tell(logging.INFO, "redis_back", "Redis answers again")


def alone(error: OSError) -> None:
    """The file of a MachinePacer cannot be used."""
    name = errno.errorcode.get(error.errno or 0, type(error).__name__)
    _tell(
        logging.WARNING,
        "pace_alone",
        f"no pace is shared on this machine: {error.filename or 'its file'}: {error.strerror or name}; "
        "this process keeps a pace of its own",
        error=name,
    )


class Limit(Protocol):
    """A ``RateLimit``, as far as it is told."""

    @property
    def requests(self) -> float:
        """How many requests are allowed."""
        ...

    @property
    def per(self) -> float:
        """In how many seconds."""
        ...


class LimitLog:
    """Tells of each limit that a pacer learns, once; and of its tries of a little more."""

    def __init__(self) -> None:
        self._known: Limit | None = None
        self._kept: Limit | None = None

    def tell(self, known: Limit, kept: Limit) -> None:
        """Hear which limit is known, and which is kept: another one while more is tried."""
        if known != self._known:
            self._limit(logging.INFO, "limit", "learned the limit", known)
        if kept not in (known, self._kept):
            self._limit(logging.DEBUG, "limit_try", "trying a little more", kept)
        self._known, self._kept = known, kept

    def _limit(self, level: int, event: str, what: str, limit: Limit) -> None:
        _tell(level, event, f"{what}: {limit}", requests=limit.requests, per=limit.per)


def _tell(level: int, event: str, message: str, **fields: str | float | None) -> None:
    # The prefix keeps the fields apart from those of other records: logging refuses a clash.
    extra = {f"hilos_{name}": value for name, value in fields.items()}
    logger.log(level, message, extra={"hilos_event": event, **extra}, stacklevel=3)


def _text(id: UUID | None) -> str | None:
    return None if id is None else str(id)


def _status(error: HilosError | None) -> int | None:
    return error.status if isinstance(error, StatusError) else None


def _name(error: HilosError | None) -> str:
    status = _status(error)
    return type(error).__name__ + ("" if status is None else f" {status}")
