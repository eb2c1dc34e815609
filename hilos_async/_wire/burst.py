"""Doing the same for many tasks in one go: all that ask in one turn of the loop, back to back.

Knows a piece of work and who waits for it. Refuses to know what the work is. It pays where the work
is short and a lot of other code runs between two pieces: by then the processor's caches have
forgotten it, and it takes two or three times as long.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from hilos_async.errors import HilosError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Burst:
    """Runs pieces of work that are handed in one by one, in bursts."""

    def __init__(self) -> None:
        self._waiting: list[tuple[asyncio.Future[Any], Callable[[], Any]]] = []

    async def run(self, work: Callable[[], T]) -> T:
        """What ``work`` returns or raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._run_all)
        self._waiting.append((future, work))
        del work  # a traceback that shows variables must not show what it works on
        return await future

    def _run_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future, work in waiting:
            if future.done():  # whoever asked was cancelled
                continue
            try:
                future.set_result(work())
            except HilosError as error:
                # Without the frames here: they hold what all the others work on.
                future.set_exception(error.with_traceback(None))
            except BaseException as error:  # noqa: BLE001 - raised where it is awaited
                future.set_exception(error)
