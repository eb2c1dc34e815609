"""What a reply that gives no reason may mean: a bare 503, and a 403 after successes.

Is a 503 that names no time to wait a limiter's, or that of a server in trouble?

A limiter's comes and goes with the rate: before it requests succeeded, and after a pause they do so
again. (nginx's `limit_req` answers like that unless it is told otherwise.)
"""

from __future__ import annotations

from collections import deque
from typing import Final

_PROBES: Final = 5  # refused one after another with no success between: the server is in trouble
FREE: Final = 3  # times that one lookup may meet it: a limiter hardly refuses one more often
_LATELY: Final = 100  # replies
_TOO_MANY: Final = 25  # of them: a pace that is slowed down by a limiter's meets far fewer


class Silence:
    """What became of the requests of a session, as far as such replies need to know."""

    def __init__(self) -> None:
        self._lately: deque[bool] = deque(maxlen=_LATELY)  # whether each was such a 503
        self._succeeded = False
        self._probes = 0
        self._last = 0.0
        self._is_told = False  # that a 403 came after successes

    def is_sudden(self) -> bool:
        """Hear of a 403; whether it is the first of a session whose key has been accepted before."""
        is_first = self._succeeded and not self._is_told
        self._is_told |= is_first
        return is_first

    def accepted(self) -> None:
        """Hear of a success."""
        self._lately.append(False)
        self._succeeded = True
        self._probes = 0

    def asks_to_wait(self, sent: float, now: float) -> bool:
        """Hear of such a 503; whether it is a limiter's: pause, learn, and use no attempt up."""
        self._lately.append(True)
        if sent >= self._last:  # not one of those that were under way together
            self._probes += 1
            self._last = now
        if len(self._lately) == _LATELY and sum(self._lately) > _TOO_MANY:
            return False
        return self._succeeded and self._probes <= _PROBES
