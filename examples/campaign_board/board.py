"""What has been seen of each campaign, and what a browser is told of it.

One watch feeds the board, however many browsers look. It knows no HTTP; how often a campaign is asked is
left to `watch_executions`.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterable
from uuid import UUID

import msgspec

from hilos_async import Change, HilosError, HilosSession, NotFoundError, RateLimit, errors

COUNTS = ("num_contacts", "completed", "running", "failed", "expired", "canceled")
POINTS = 60  # of a campaign's line, at most: it is as wide as a thumb
TICK = 0.5  # seconds between two looks at what has moved: quick enough for an eye
KEEP_ALIVE = 15.0  # seconds of silence after which a proxy might take the connection for dead


class Row(msgspec.Struct):
    """What the page shows of one campaign, and no more: executions hold e-mail addresses too."""

    id: str
    name: str = ""
    status: str = ""
    counts: dict[str, int] = {}
    reason: str = ""  # why the last lookup failed, or why the campaign was canceled
    failing: bool = False
    ended: bool = False
    moved: int = 0  # the number of the change that was its last
    history: list[
        tuple[int, int]
    ] = []  # seconds since the board began, and how many of 1,000 are done


class Asking(msgspec.Struct):
    """How the asking goes, in words where there are any."""

    limit: str | None
    learned: bool
    paused_for: int
    requests: int
    stopped: str  # why nothing is asked any more, if that is an error


class Board:
    """What has been seen of each campaign. One watch feeds it, and every browser reads it."""

    def __init__(self, ids: Iterable[str]) -> None:
        self.closing = False
        self._began = time.monotonic()
        self._rows = {id: Row(id) for id in map(_as_the_api_spells_it, ids)}
        self._changes = 0
        self._watch: asyncio.Task[None] | None = None
        self._known_limit: RateLimit | None = None
        self._stopped = ""

    def follow(self, hilos: HilosSession) -> None:
        """Start the watch with the first browser; it ends with the last campaign or the session."""
        if self._watch is None:
            self._known_limit = hilos.stats.limit  # before the first answer: none is learned yet
            self._watch = asyncio.create_task(self._follow(hilos))

    async def _follow(self, hilos: HilosSession) -> None:
        try:
            async with hilos.watch_executions(self._rows) as changes:
                async for change in changes:
                    self._take(change)
        except HilosError as error:  # the key was refused, or the session is closed
            self._stopped = _reason(error)

    def _take(self, change: Change) -> None:
        row = self._rows[str(change.id)]
        self._changes += 1
        row.moved, row.ended, row.failing = self._changes, change.ended, change.error is not None
        if (execution := change.after) is not None:
            row.name, row.status = execution.flow.name, str(execution.status)
            row.reason = execution.status_reason or ""
            row.counts = {name: getattr(execution, name) for name in COUNTS}
            self._mark(row)
        else:
            row.reason = _reason(change.error)
            if isinstance(change.error, NotFoundError):
                row.status = "NOT_FOUND"
            else:
                row.status = row.status or "NO_ANSWER"

    def _mark(self, row: Row) -> None:
        """Make the campaign's line longer, if more is done; a long one gets coarser."""
        done = sum(row.counts[name] for name in ("completed", "failed", "expired", "canceled"))
        share = 1_000 * done // (row.counts["num_contacts"] or 1)
        if row.history and row.history[-1][1] == share:
            return
        row.history.append((int(time.monotonic() - self._began), share))
        if len(row.history) > POINTS:
            del row.history[1:-1:2]  # every second one; both ends stay

    def _asking(self, hilos: HilosSession) -> Asking:
        stats = hilos.stats
        return Asking(
            limit=None if stats.limit is None else str(stats.limit),
            learned=stats.limit != self._known_limit,
            paused_for=math.ceil(stats.paused_for),
            requests=stats.requests,
            stopped=self._stopped,
        )

    async def events(self, hilos: HilosSession) -> AsyncIterator[bytes]:
        """Everything at once, then what has moved: server-sent events for one browser.

        One that is slow to read misses steps between, never the last state, and nothing piles up.
        """
        yield b"retry: 1000\n\n"
        seen, told, silent = -1, None, 0.0
        while not self.closing:
            rows = [row for row in self._rows.values() if row.moved > seen]
            asking = self._asking(hilos)
            if rows or asking != told or silent >= KEEP_ALIVE:
                news = {"is_all": seen < 0, "campaigns": rows, "asking": asking}
                seen, told, silent = self._changes, asking, 0.0
                yield b"data: %b\n\n" % msgspec.json.encode(news)
            await asyncio.sleep(TICK)
            silent += TICK


def _as_the_api_spells_it(id: str) -> str:
    try:
        return str(UUID(id))
    except ValueError:
        return id  # the watch will say what is wrong with it


def _reason(error: HilosError | None) -> str:
    """What went wrong, for the people at the page: no address, and nothing of a reply's body."""
    match error:
        case errors.InvalidIdError():
            return f"{error.execution_id!r} is not the id of a campaign."
        case NotFoundError():
            return "This account has no such campaign."
        case errors.AuthenticationError():
            return "Hilos refuses the key (401): is HILOS_API_KEY right, and for this account?"
        case errors.PermissionDeniedError():
            return "The key may not see this campaign (403)."
        case errors.RateLimitError():
            return "Hilos asks us to slow down."
        case errors.ServerError():
            return f"Hilos has trouble of its own ({error.status}). {error.detail}".strip()
        case errors.StatusError():
            return f"Hilos answered with an error ({error.status}). {error.detail}".strip()
        case errors.DecodeError():
            return f"Hilos sent something that is no campaign (at {error.path})."
        case errors.AttemptTimeoutError() | errors.DeadlineExceededError():
            return "Hilos did not answer in time."
        case errors.TransportError():
            return "Hilos could not be reached."
        case errors.ResponseTooLargeError():
            return "Hilos sent more than a campaign can be."
        case errors.SessionClosedError():
            return "The board has been stopped."
        case _:
            return "Something went wrong that the board does not know."
