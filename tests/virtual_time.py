"""Time that does not depend on the machine.

A loop whose time jumps to the next timer instead of waiting for it: seconds cost nothing. For code
that only sleeps and computes; a socket needs real time. For that there is a clock that goes on as the
real one does, but for the moments in which the machine stalls.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


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


class UnstalledClock:
    """Seconds since some moment, without those in which the process stood still.

    Two readings lie 25 ms apart at most. Somebody has to read it more often than that, or it is slow.
    """

    def __init__(self) -> None:
        self._real = time.monotonic
        self._read = self._now = self._real()

    def __call__(self) -> float:
        read = self._real()
        self._now += min(read - self._read, 0.025)
        self._read = read
        return self._now


def keep_reading(clock: UnstalledClock) -> Callable[[], None]:
    """Read it on the running loop from now on; gives what ends that."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def read() -> None:
        nonlocal timer
        clock()
        timer = loop.call_later(0.005, read)

    def stop() -> None:
        timer.cancel()  # the one that is set by then

    read()
    return stop
