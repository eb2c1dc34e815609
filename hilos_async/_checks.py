"""What the caller gives as an id or a number, checked before any I/O.

Each function returns the normal form or raises a ValueError, TypeError or InvalidIdError that says
what was given and what would do.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import re
from uuid import UUID

from hilos_async.errors import InvalidIdError

_UUID = re.compile(
    r"(?:urn:uuid:)?(\{)?[0-9a-f]{8}(-?)[0-9a-f]{4}\2[0-9a-f]{4}\2[0-9a-f]{4}\2[0-9a-f]{12}(?(1)\})",
    re.IGNORECASE | re.ASCII,
)

_NEVER_RUNS = (
    "{name} is asynchronous or a generator, and would never run: give a plain function; it can start a "
    "task, or put into an asyncio.Queue what a task of yours awaits"
)


def parse_id(value: object, noun: str = "execution") -> UUID:
    """The UUID that any of its spellings stands for; ``InvalidIdError`` for everything else."""
    if isinstance(value, UUID):
        return value
    if isinstance(value, str) and _UUID.fullmatch(value.strip()):
        return UUID(value.strip())
    shown = repr(value)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    error = InvalidIdError(
        f"{shown} is no {noun} id; one looks like 'a1b2c3d4-0000-4000-8000-1234567890ab'"
    )
    # Half a surrogate pair, which JSON may hold, could not be written into any answer or file.
    error.execution_id = str(value).encode("utf-8", "backslashreplace").decode()
    raise error


def instance(name: str, value: object, kind: type) -> None:
    """A value of that type."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")


def callback(name: str, function: object) -> None:
    """A callable that runs when it is called, or ``None``: no coroutine function and no generator."""
    if function is None:
        return
    if not callable(function):
        raise TypeError(f"{name} must be a function, not {type(function).__name__}")
    called: object = function
    while isinstance(called, functools.partial):
        called = called.func
    # Of an object with __call__, that is what runs.
    for runs in (called, getattr(called, "__call__", None)):  # noqa: B004 - the method itself is wanted
        if (
            inspect.iscoroutinefunction(runs)
            or inspect.isgeneratorfunction(runs)
            or inspect.isasyncgenfunction(runs)
        ):
            raise TypeError(_NEVER_RUNS.format(name=name))


def ignored(name: str, result: object) -> None:
    """What a callback returned that nobody waits for: anything but what has not run yet.

    A task or another future runs by itself.
    """
    if not isinstance(result, asyncio.Future):
        _has_run(name, result)


def truth(name: str, result: object) -> bool:
    """What a callback that says yes or no returned; never what is yet to be awaited."""
    _has_run(name, result)
    return bool(result)


def _has_run(name: str, result: object) -> None:
    if inspect.iscoroutine(result):
        result.close()  # so that nobody is warned of it besides
    if inspect.isawaitable(result) or inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError(_NEVER_RUNS.format(name=name))


def positive(name: str, value: object) -> float:
    """A positive, finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}={value!r} must be positive and finite")
    return float(value)


def seconds(name: str, value: object) -> float | None:
    """A positive number of seconds, or ``None`` for no bound."""
    return None if value is None else positive(name, value)


def whole(name: str, value: object) -> int:
    """A whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name}={value!r} must be at least 1")
    return value
