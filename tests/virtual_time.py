"""Time that does not depend on the machine.

A loop whose time jumps to the next timer instead of waiting for it: seconds cost nothing. For code
that only sleeps and computes; a socket needs real time. For that there is a clock that goes on as the
real one does. It hardly counts the moments in which the machine stalls, and jumps where nothing happens.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

T = TypeVar("T")

_MOMENT = 0.002  # seconds; on loopback, what was sent has arrived


class _JumpingSelector(selectors.DefaultSelector):
    now = 1_000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("every task waits for something that no timer will bring")
            self.now += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, which starts at 1,000 s."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def run(main: Callable[[Callable[[], float]], Coroutine[object, object, T]]) -> T:
    """Run ``main(clock)`` on a loop of its own, in virtual time."""
    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main(loop.time))


class QuickClock:
    """Seconds since some moment. A loop with real sockets that it rules does not wait for its timers.

    Where nothing happens for a moment, neither on a socket nor in a thread of the loop's, time jumps to
    the next timer. While the process stands still, 25 ms go by at most.
    """

    def __init__(self) -> None:
        self._real = time.monotonic
        self._read = self._now = self._real()
        self._in_threads = 0

    def __call__(self) -> float:
        read = self._real()
        self._now += min(read - self._read, 0.025)
        self._read = read
        return self._now

    @contextmanager
    def ruling(self, loop: asyncio.SelectorEventLoop) -> Generator[None]:
        """Let the loop wait by this clock."""
        selector: selectors.BaseSelector = loop._selector  # type: ignore[attr-defined]  # private
        really_select, really_run = selector.select, loop.run_in_executor

        def select(timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            self()
            if timeout is None or timeout <= _MOMENT:
                return really_select(timeout)
            ready = really_select(_MOMENT)
            self()
            if not (ready or self._in_threads):
                self._now += timeout - _MOMENT
            return ready

        def run_in_executor(*args: Any) -> asyncio.Future[Any]:
            future = really_run(*args)
            self._in_threads += 1
            future.add_done_callback(self._left_thread)
            return future

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(selector, "select", select)
            patch.setattr(loop, "run_in_executor", run_in_executor)
            yield

    def _left_thread(self, _future: asyncio.Future[Any]) -> None:
        self._in_threads -= 1
