"""The error tree: what errors know survives pickle and copy, and its drawing is the truth."""

from __future__ import annotations

import copy
import inspect
import pickle
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from hilos_async import (
    AuthenticationError,
    DeadlineExceededError,
    DecodeError,
    ExecutionBatch,
    HilosError,
    InvalidIdError,
    OutcomeUnknownError,
    RateLimitError,
    ResponseTooLargeError,
    SessionClosedError,
    TransportError,
    errors,
)

EXAMPLES = [
    TransportError("x", transient=False),
    RateLimitError("x", status=429, detail="d", body=b"b", headers={"a": "b"}, retry_after=3.0),
    DecodeError("x", path="$.a", body=b"{}"),
    ResponseTooLargeError("x", limit=5),
    DeadlineExceededError("x", timeout=2.0),
    SessionClosedError("x"),
    OutcomeUnknownError("x", flow_id=uuid4(), sent_at=datetime.now(UTC)),
    InvalidIdError("x"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_pickles_and_copies_with_all_it_knows(error: HilosError) -> None:
    error.execution_id, error.attempts, error.elapsed = uuid4(), 3, 1.25
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert vars(twin) == vars(error)
        assert str(twin) == str(error) == "x [3 attempts in 1.2 s]"


def test_every_error_keeps_its_cause_through_pickle_and_copy() -> None:
    error = DeadlineExceededError("x", timeout=1.0)
    error.__cause__ = TransportError("reset")
    error.__cause__.__cause__ = ConnectionResetError(104, "Connection reset by peer")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert isinstance(twin.__cause__, TransportError)
        assert repr(twin.__cause__.__cause__) == repr(error.__cause__.__cause__)


def test_a_cause_that_cannot_be_pickled_is_told_in_words() -> None:
    class LocalError(OSError):
        """It has no name that pickle could find it under."""

    error = TransportError("x")
    error.__cause__ = LocalError("no route")
    assert copy.copy(error).__cause__ is error.__cause__
    twin = pickle.loads(pickle.dumps(error))
    assert isinstance(twin.__cause__, ConnectionError)
    assert "LocalError: no route" in str(twin.__cause__)


def test_an_authentication_error_keeps_its_batch_through_pickle() -> None:
    error = AuthenticationError("x", status=401)
    error.batch = ExecutionBatch({}, {"y": InvalidIdError("y")})
    assert len(pickle.loads(pickle.dumps(error)).batch) == 1


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawing = (inspect.getdoc(errors) or "").splitlines()
    drawn = {
        line.split()[0]: len(line) - len(line.lstrip()) for line in drawing if "Error" in line[:30]
    }
    kinds = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.HilosError)
    ]
    for kind in kinds:
        parents = [parent.__name__ for parent in kind.__mro__ if parent.__name__ in drawn]
        assert drawn[kind.__name__] == 4 + 2 * (len(parents) - 1)
    assert len(drawn) == len(kinds)
