"""The error tree: what errors know survives pickle and copy, and its drawing is the truth."""

from __future__ import annotations

import copy
import inspect
import pickle
from uuid import uuid4

import pytest

from hilos_async import (
    AuthenticationError,
    DeadlineExceededError,
    DecodeError,
    ExecutionBatch,
    HilosError,
    InvalidIdError,
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
    InvalidIdError("x"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_pickles_and_copies_with_all_it_knows(error: HilosError) -> None:
    error.execution_id, error.attempts, error.elapsed = uuid4(), 3, 1.25
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert vars(twin) == vars(error)
        assert str(twin) == str(error) == "x [3 attempts in 1.2 s]"


def test_an_authentication_error_keeps_its_batch_through_pickle() -> None:
    error = AuthenticationError("x", status=401)
    error.batch = ExecutionBatch({}, {"y": InvalidIdError("y")})
    assert len(pickle.loads(pickle.dumps(error)).batch) == 1


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawing = (inspect.getdoc(errors) or "").splitlines()
    drawn = {
        line.split()[0]: len(line) - len(line.lstrip()) for line in drawing if "Error" in line[:30]
    }
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        if kind.__module__ == errors.__name__:
            parents = [parent.__name__ for parent in kind.__mro__ if parent.__name__ in drawn]
            assert drawn[name] == 4 + 2 * (len(parents) - 1)
    assert len(drawn) == len(inspect.getmembers(errors, inspect.isclass))
