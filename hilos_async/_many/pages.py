"""Walking a list that changes meanwhile: page by page, or some pages ahead.

Knows page numbers, counts and ids of rows; it is given a way to ask for a page and knows no HTTP.
New rows come in at the top, and rows go away anywhere. So a row's distance from the END of the list
can only shrink, and that is what a walk counts in: ``_left`` is how many rows at the end have not all
been given.
"""

from __future__ import annotations

import contextlib
import functools
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final, Generic, Self

from hilos_async import _checks
from hilos_async._api.lists import Page, R
from hilos_async._many.stream import Stream
from hilos_async._many.tasks import tasks
from hilos_async.errors import NotFoundError, UnstableListError

if TYPE_CHECKING:
    from uuid import UUID

    from hilos_async._many.stream import Feed

    Ask = Callable[[int], Awaitable[Page[R]]]

_PATIENCE: Final = 50  # reads in a row that bring a walk no further
_DENIALS: Final = 3


class Listing(Generic[R]):
    """A list of the account, newest first: nothing is asked before somebody wants rows.

    ``async for row in listing:`` asks for one page after another, as the loop needs them. A row that
    is in the list from the first page's reading to the end of the loop is given, and none is given
    twice, whatever is inserted at the top and removed anywhere meanwhile. Rows that come or go under
    way may be given or not. It starts no task, and leaving the loop early leaves nothing behind; an id
    is kept for each row. What cannot be promised: a row that is inserted in the middle, and a row that
    moves up because another is removed in the moment between the server's counting and its reading.

    Raises ``UnstableListError`` if rows go away faster than pages can be read, and the errors of a
    lookup. A 404 past the first page is the end.
    """

    def __init__(self, ask: Ask[R], ask_ahead: Ask[R] | None = None) -> None:
        self._ask = ask
        self._ask_ahead = ask_ahead or ask  # as one of many, behind whoever wants one page

    def __aiter__(self) -> AsyncIterator[R]:
        return _Rows(_Walk(self._ask))

    def pages(self, start: int = 1) -> AsyncIterator[Page[R]]:
        """Give page after page from that one on, each with the rows that no earlier one had.

        Where rows have moved up, a page is read once more and comes again with what is new in it.
        """
        return _Walk(self._ask, _checks.whole("start", start))

    async def count(self) -> int:
        """How many rows the list has now: one request."""
        return (await self._ask(1)).count

    def stream(self, ahead: int = 4) -> AbstractAsyncContextManager[AsyncIterator[R]]:
        """Give the rows in their order while up to ``ahead`` pages are asked for at once.

        Use as ``async with hilos.list_executions().stream() as rows: async for row in rows:``. It
        promises what the plain loop does: it asks for the first page again after each such lot of
        pages, and if the list has changed meanwhile, reads these pages once more, one by one. So it
        sends a quarter more requests for ``ahead=4``, and twice as many where the list never stands
        still. Leaving the block early cancels what is under way.
        """
        return _ahead(self._ask_ahead, _checks.whole("ahead", ahead))


class _Walk(Generic[R]):
    """Which rows have been given, and which page comes next."""

    def __init__(self, ask: Ask[R], start: int = 1) -> None:
        self._ask = ask
        self.next = start
        self.done = False
        self.size = 1  # rows of a page that another follows
        self._given: set[UUID] = set()
        self._left: int | None = None
        self._count = 0
        self._missing: int | None = None  # the page that was not there when it was last asked for
        self._denied = 0
        self._idle = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Page[R]:
        while not self.done:
            page = await self.read()
            if page is not None:
                return page
        raise StopAsyncIteration

    async def read(self) -> Page[R] | None:
        """Ask for the next page; what is new in it, ``None`` if it is of no use now."""
        if self.done:
            return None
        try:
            page = await self._ask(self.next)
        except NotFoundError:
            if self.next == 1:
                raise
            self._miss()
            return None
        return self.take(page)

    def take(self, page: Page[R]) -> Page[R] | None:
        """What is new in a page; ``None`` if rows may have moved up past it."""
        if self.done:
            return None
        rows = page.results
        new = tuple(row for row in rows if row.id not in self._given)
        if page.has_next:
            self.size = max(1, len(rows))
            begins = (page.number - 1) * len(rows)
        else:
            begins = page.count - len(rows)
        if self._left is None:
            self._left = page.count - begins  # nobody wants what stands before the first page
        had, self._count = self._count, page.count
        missing, self._missing = self._missing, None
        begins_later = page.number > 1 and begins > page.count - self._left
        if begins_later and len(new) == len(rows):  # a row given before would join the two
            self._spend()
            self.next = self._first_left()
            return None
        left = min(self._left, page.count - begins - len(rows))
        if left < self._left:
            self._left, self._idle = left, 0
        else:
            self._spend()
        # A next page that is promised and not there, again and again, while nothing changes: the end.
        unchanged = missing == page.number + 1 and page.count == had and not new
        self._denied = self._denied + 1 if unchanged else 0
        self.done = not page.has_next or self._denied == _DENIALS
        self.next = max(page.number + 1, self._first_left())
        self._given.update(row.id for row in new)
        return Page(number=page.number, count=page.count, has_next=page.has_next, results=new)

    def ahead(self, most: int) -> range:
        """The next pages, of those that the list should have: at least one, at most so many."""
        last = -(-self._count // self.size)
        return range(self.next, max(self.next, min(last, self.next + most - 1)) + 1)

    def _first_left(self) -> int:
        """The page with the first row that may not have been given."""
        return max(0, self._count - (self._left or 0)) // self.size + 1

    def _miss(self) -> None:
        """The page that was asked for is not there: the list has ended, or become shorter."""
        if self._left is None:
            self.done = True
            return
        self._spend()
        # The one before it tells how long the list is now; if that is gone too, the first.
        self._missing, self.next = self.next, 1 if self._missing else self.next - 1

    def _spend(self) -> None:
        self._idle += 1
        if self._idle > _PATIENCE:
            raise UnstableListError(
                f"after {len(self._given)} rows of a list of {self._count}, {self._idle} readings of "
                "its pages brought no other: rows go away faster than pages can be read, or the "
                "server's count is not that of its pages; ask again later, or with a filter"
            )


class _Rows(Generic[R]):
    """The rows of pages, one after another."""

    def __init__(self, pages: AsyncIterator[Page[R]]) -> None:
        self._pages = pages
        self._rows: deque[R] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> R:
        while not self._rows:
            self._rows.extend((await anext(self._pages)).results)
        return self._rows.popleft()


@contextlib.asynccontextmanager
async def _ahead(ask: Ask[R], ahead: int) -> AsyncGenerator[AsyncIterator[R], None]:
    async with Stream(functools.partial(_walk_in_lots, ask, ahead), ahead) as pages:
        yield _Rows(pages)


async def _walk_in_lots(ask: Ask[R], ahead: int, feed: Feed[Page[R]]) -> None:
    """Walk the list with several pages asked for at once, where the list stands still.

    Nobody knows in which order a server reads requests that are under way together: a row that is
    inserted between them moves another from a page that is read later to one that was read before. But
    where the first page and the count are the same before and after, and the count is the same on each
    page between, nothing was inserted and nothing removed: a row that has gone never comes again.
    """

    async def give(page: Page[R] | None) -> None:
        if page is not None:
            await feed.room.acquire()
            feed.deliver(page)

    walk = _Walk(ask)
    before = await ask(1)
    await give(walk.take(before))
    while not walk.done:
        numbers = walk.ahead(ahead)
        pages: list[Page[R]] = []
        if len(numbers) > 1:
            pages = await _at_once(ask, numbers)
            after = await ask(1)
            stood_still = (
                len(pages) == len(numbers)
                and all(page.count == before.count for page in pages)
                and _seen(after) == _seen(before)
            )
            if not stood_still:
                pages, before = [], after
        for place in range(len(numbers)):
            await give(walk.take(pages[place]) if pages else await walk.read())


async def _at_once(ask: Ask[R], numbers: range) -> list[Page[R]]:
    """Those of the pages that are there, asked for together."""
    pages: dict[int, Page[R]] = {}

    async def read(number: int) -> None:
        with contextlib.suppress(NotFoundError):
            pages[number] = await ask(number)

    async with tasks() as start:
        for number in numbers:
            start(read, number)
    return [pages[number] for number in numbers if number in pages]


def _seen(page: Page[R]) -> tuple[int, list[UUID]]:
    return page.count, [row.id for row in page.results]
