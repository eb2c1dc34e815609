"""Every error this library raises, and what each one knows.

    HilosError
      TransportError            no usable reply; the cause is chained
        AttemptTimeoutError     one attempt took longer than attempt_timeout
      StatusError               a reply that is no 2xx: .status .detail .body .headers .retry_after
        AuthenticationError     401: the key was refused
        PermissionDeniedError   403
        NotFoundError           404
        RateLimitError          429
        ServerError             5xx
      DecodeError               a reply, but not the shape we know; .path says where
      ResponseTooLargeError     a reply over max_response_bytes
      DeadlineExceededError     the lookup's or the batch's timeout ran out; the last error is chained
      SessionClosedError        the session was closed
      UnstableListError         a list changed faster than its pages can be read
      OutcomeUnknownError       a run was sent and may have started; the cause is chained
      InvalidIdError            not a UUID; also a ValueError; raised before any request

Did they reply? Was the reply bad? Or is it the caller's own mistake? The three answers are three
branches. This module imports nothing of ours.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID


def _restore(
    cls: type[HilosError],
    args: tuple[object, ...],
    state: dict[str, object],
    cause: BaseException | None = None,
) -> HilosError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    error.__cause__ = cause
    return error


def _portable(cause: BaseException | None) -> BaseException | None:
    """The cause of an error that is pickled; what cannot be pickled is told in words."""
    if cause is None or isinstance(cause, HilosError):
        return cause
    try:
        pickle.loads(pickle.dumps(cause))  # noqa: S301 - our own bytes: some only fail when read
    except (pickle.PickleError, TypeError, ValueError, AttributeError, ImportError):
        # An aiohttp error, for example, may hold an SSLContext.
        return ConnectionError(f"{type(cause).__qualname__}: {cause}")
    return cause


class PartialBatch(Protocol):
    """What a batch had when it was ended: an ``ExecutionBatch``, or another ``Batch``."""

    @property
    def results(self) -> Mapping[UUID, object]:
        """What had been fetched, by id."""
        ...

    @property
    def errors(self) -> Mapping[UUID | str, HilosError]:
        """The errors of single ids."""
        ...

    def __len__(self) -> int: ...


class HilosError(Exception):
    """Whatever this library raises about a lookup or a session.

    ``execution_id`` is the id asked for, of an execution or of one of its contacts (the text given, if
    it is no UUID); ``None`` where no id was asked for. ``attempts`` is the number of requests
    sent; ``uncounted`` of them used up no attempt of the policy: they were refused with a 429 (or
    another status with ``Retry-After``), or met a connection that the server had closed. ``elapsed`` is
    the seconds since the call began, waiting included. An error is pickled and copied with its cause.
    """

    execution_id: UUID | str | None = None
    attempts: int = 0
    uncounted: int = 0
    elapsed: float = 0.0

    def __init__(self, message: str) -> None:
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword-only arguments do not survive pickle's default of cls(*args).
        return _restore, (type(self), self.args, self.__dict__.copy(), _portable(self.__cause__))

    def __copy__(self) -> Self:
        twin: Self = type(self).__new__(type(self), *self.args)
        twin.args = self.args
        twin.__dict__.update(self.__dict__)
        twin.__cause__ = self.__cause__
        return twin

    def __str__(self) -> str:
        text = str(self.args[0]) if self.args else type(self).__name__
        if self.attempts < 2:
            return text
        aside = ""
        if self.uncounted:
            aside = f"; {self.uncounted} not counted: asked to wait, or a closed connection"
        return f"{text} [{self.attempts} attempts in {self.elapsed:.1f} s{aside}]"


class TransportError(HilosError):
    """No usable reply came back: refused, reset, cut short, garbage on the wire, unknown host.

    ``transient`` tells whether asking again can help; a refused certificate or an unknown host will
    not get better by itself. The cause is chained as ``__cause__``.
    """

    transient: bool

    def __init__(self, message: str, *, transient: bool = True) -> None:
        super().__init__(message)
        self.transient = transient


class AttemptTimeoutError(TransportError):
    """One attempt, with its body and its decoding, took longer than ``attempt_timeout``."""


class StatusError(HilosError):
    """The server replied with a status that is no success.

    ``status`` is the HTTP status, ``detail`` the API's own words (the ``detail`` of its JSON body, or
    ``""``), ``body`` the first bytes of the body, ``headers`` the reply's headers with lower-case
    names, ``retry_after`` the seconds the server asked to wait, or ``None``.
    """

    status: int
    detail: str
    body: bytes
    headers: Mapping[str, str]
    retry_after: float | None

    def __init__(
        self,
        message: str,
        *,
        status: int,
        detail: str = "",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.detail = detail
        self.body = body
        self.headers = {} if headers is None else headers
        self.retry_after = retry_after


class AuthenticationError(StatusError):
    """401: the API refused the key.

    Raised by a batch, ``batch`` is what had been fetched until then: an ``ExecutionBatch`` or another
    ``Batch``, as that call would have returned it.
    """

    batch: PartialBatch | None = None


class PermissionDeniedError(StatusError):
    """403: the key is right and may not do this."""


class NotFoundError(StatusError):
    """404: the account has no such execution, contact, flow or page."""


class RateLimitError(StatusError):
    """429: more requests than the account may send; every lookup of the session waits."""


class ServerError(StatusError):
    """5xx: the server failed."""


class DecodeError(HilosError):
    """A reply, but not one of the shape we know.

    ``path`` is the JSON path of the first thing that does not fit (``$.flow.id``; ``$`` for the whole
    document) and ``body`` its first bytes.
    """

    path: str
    body: bytes

    def __init__(self, message: str, *, path: str = "$", body: bytes = b"") -> None:
        super().__init__(message)
        self.path = path
        self.body = body


class ResponseTooLargeError(HilosError):
    """A reply grew past ``max_response_bytes`` (``limit``) after decompression and was abandoned."""

    limit: int

    def __init__(self, message: str, *, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class DeadlineExceededError(HilosError):
    """``timeout`` (seconds) ran out, or would have before the next attempt could start.

    The last error of the lookup, if there was one, is chained as ``__cause__``.
    """

    timeout: float | None

    def __init__(self, message: str, *, timeout: float | None = None) -> None:
        super().__init__(message)
        self.timeout = timeout


class SessionClosedError(HilosError):
    """The session was closed, before the lookup or under it."""


class UnstableListError(HilosError):
    """A list lost rows faster than its pages can be read: the walk ends rather than skip one."""


class OutcomeUnknownError(HilosError):
    """A run was sent, and what came back does not tell whether it has started.

    ``flow_id`` is the flow's id and ``sent_at`` the moment, in UTC, at which sending began. A run is
    never sent twice: whether it has started shows in ``list_executions(flow=flow_id)``, as an execution
    created since ``sent_at``. What went wrong is chained as ``__cause__``.
    """

    flow_id: UUID
    sent_at: datetime

    def __init__(self, message: str, *, flow_id: UUID, sent_at: datetime) -> None:
        super().__init__(message)
        self.flow_id = flow_id
        self.sent_at = sent_at


class InvalidIdError(HilosError, ValueError):
    """What was given as an id is no UUID; nothing was sent."""
