"""Ctrl-C while a command runs: it cancels the work once, and what is pressed after that is ignored.

asyncio's own way raises ``KeyboardInterrupt`` wherever the loop is at the second Ctrl-C, in the middle
of clearing up too: files stay behind, and a traceback is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

_T = TypeVar("_T")


def run(work: Coroutine[object, object, _T]) -> _T:
    """Run the work in a loop of its own; ``KeyboardInterrupt`` once it has cleared up after Ctrl-C."""
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not is_default or threading.current_thread() is not threading.main_thread():
        return asyncio.run(work)  # somebody else decides what Ctrl-C does
    is_pressed = False
    tasks: list[asyncio.Task[object]] = []

    def press(number: int, frame: object) -> None:
        nonlocal is_pressed
        if not is_pressed:
            is_pressed = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: the work has ended
                for task in tasks:
                    task.get_loop().call_soon_threadsafe(task.cancel)

    async def start() -> _T:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        if is_pressed:
            task.cancel()
        return await work

    signal.signal(signal.SIGINT, press)
    try:
        return asyncio.run(start())
    except asyncio.CancelledError:
        if is_pressed:
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
