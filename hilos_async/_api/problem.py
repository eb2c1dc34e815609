"""What a stranger may hear of an error: a problem as RFC 9457 describes it."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Final, Self

import msgspec

from hilos_async._api.model import Model, as_plain
from hilos_async.errors import (
    AttemptTimeoutError,
    DeadlineExceededError,
    HilosError,
    InvalidIdError,
    NotFoundError,
    OutcomeUnknownError,
    RateLimitError,
    ServerError,
    SessionClosedError,
    StatusError,
)


class HilosProblem(Model, frozen=True, kw_only=True):
    """What a stranger may hear of an error: a problem as RFC 9457 has them.

    ``status`` and ``title`` are HTTP's, ``detail`` is a sentence for people, the same for all errors
    of a kind: no word of the API's, no address and no key. ``execution_id`` is the id asked for.
    ``retry_after`` is in seconds, there if asking again helps and ``status`` is 503.
    """

    # No defaults: then it is described the same way whether it is read or written, under one name.
    type: str
    title: str
    status: int
    detail: str
    execution_id: str | None
    retry_after: int | None

    @classmethod
    def of(cls, error: HilosError, pause: float = 0.0) -> Self:
        """The problem that an error is; ``pause``: the seconds that its session still waits."""
        given = None if error.execution_id is None else str(error.execution_id)
        late = isinstance(error, DeadlineExceededError)
        cause = error.__cause__ if late else error
        if _asks_to_wait(cause) or (late and pause > 0):
            asked = cause.retry_after if isinstance(cause, StatusError) else None
            wait = min(_LONGEST_WAIT, max(1.0, pause, asked or 0.0))
            return cls._say(503, _BUSY, given, math.ceil(wait))
        if isinstance(error, SessionClosedError):
            return cls._say(503, _CLOSED, given, 1)
        for kinds, status, detail in _PROBLEMS:
            if isinstance(error, kinds):
                return cls._say(status, detail, given)
        return cls._say(502, _USELESS, given)

    @classmethod
    def of_many(cls, errors: list[HilosError], pause: float = 0.0) -> Self:
        """The problem that several errors are together: theirs if they agree, otherwise a 502."""
        problems = [cls.of(error, pause) for error in errors]
        if len({problem.status for problem in problems}) > 1:
            return cls._say(502, _USELESS, None)
        longest = max(problems, key=lambda problem: problem.retry_after or 0)
        return longest if len(errors) == 1 else msgspec.structs.replace(longest, execution_id=None)

    @classmethod
    def _say(
        cls, status: int, detail: str, execution_id: str | None, retry_after: int | None = None
    ) -> Self:
        return cls(
            type="about:blank",
            title=HTTPStatus(status).phrase,
            status=status,
            detail=detail,
            execution_id=execution_id,
            retry_after=retry_after,
        )


_LONGEST_WAIT: Final = 604_800.0  # seconds, a week: what an API asks beyond it is no time any more
_BUSY: Final = "Hilos takes no more requests for now. Ask again later."
_CLOSED: Final = "This service is shutting down. Ask again."
_USELESS: Final = "Hilos could not be asked, or gave no usable answer."
_PROBLEMS: Final = (
    (
        InvalidIdError,
        400,
        "This is no id; one looks like a1b2c3d4-0000-4000-8000-1234567890ab.",
    ),
    (NotFoundError, 404, "Hilos has nothing under this id."),
    (
        OutcomeUnknownError,
        502,
        "A campaign may have started all the same. Look before you start it again.",
    ),
    ((DeadlineExceededError, AttemptTimeoutError), 504, "Hilos did not answer in time."),
)


def _asks_to_wait(error: BaseException | None) -> bool:
    return isinstance(error, RateLimitError) or (
        isinstance(error, ServerError) and error.retry_after is not None
    )


@as_plain.register
def _as_problem(error: HilosError) -> HilosProblem:
    return HilosProblem.of(error)
