"""Tasks that belong to one block: whatever ends one of them ends all, and comes out as it is."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol, TypeVarTuple

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

Ts = TypeVarTuple("Ts")


class Start(Protocol):
    """Starts a task of the block."""

    def __call__(self, work: Callable[[*Ts], Awaitable[None]], *args: *Ts) -> None:
        """Run ``work(*args)`` in a task."""
        ...


@asynccontextmanager
async def tasks() -> AsyncGenerator[Start, None]:
    """A block that waits for its tasks; the first error of one ends all and comes out plain.

    A task group of anyio forgets a ``CancelledError`` that nobody asked it for, and ends as if all had
    gone well. It may come out of a user's generator or pacer, or because somebody cancelled one task.
    Then results are missing: here it comes out too.
    """
    started = ended = 0
    failures: list[BaseException] = []

    async def run(work: Callable[[*Ts], Awaitable[None]], *args: *Ts) -> None:
        nonlocal ended
        try:
            await work(*args)
        except BaseException as error:
            failures.append(error)
            raise
        ended += 1

    try:
        async with anyio.create_task_group() as group:

            def start(work: Callable[[*Ts], Awaitable[None]], *args: *Ts) -> None:
                nonlocal started
                started += 1
                group.start_soon(run, work, *args)

            yield start
    except BaseExceptionGroup as several:
        failure: BaseException = several.exceptions[0]
    else:
        if ended == started:
            return
        failure = failures[0] if failures else asyncio.CancelledError()
    raise failure
