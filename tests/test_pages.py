"""Walking a list that changes under way: nothing that stays is lost, nothing is given twice.

The list is in memory: new rows come in at its top, rows go from anywhere, between any two readings.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilos_async import NotFoundError, UnstableListError
from hilos_async._api.lists import Page
from hilos_async._many.pages import Listing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Row(msgspec.Struct, frozen=True):
    id: UUID


class ChangingList:
    """A list that does something before each of its pages is read."""

    def __init__(self, rows: int, size: int, change: Callable[[ChangingList], None]) -> None:
        self.size = size
        self.reads: list[int] = []
        self._made = 0
        self._change = change
        self.rows: list[Row] = []
        self.insert(rows)
        self.at_first: set[UUID] | None = None

    def insert(self, number: int) -> None:
        made = [Row(UUID(int=self._made + n)) for n in range(number)]
        self._made += number
        self.rows[:0] = reversed(made)

    def remove(self, place: int) -> None:
        if self.rows:
            del self.rows[place % len(self.rows)]

    def read(self, number: int) -> Page[Row]:
        self.reads.append(number)
        if self.at_first is None:
            self.at_first = {row.id for row in self.rows}
        else:
            self._change(self)
        begin = (number - 1) * self.size
        if number > 1 and begin >= len(self.rows):
            raise NotFoundError("Invalid page.", status=404)
        end = begin + self.size
        return Page(
            number=number,
            count=len(self.rows),
            has_next=end < len(self.rows),
            results=tuple(self.rows[begin:end]),
        )

    async def ask(self, number: int) -> Page[Row]:
        return self.read(number)

    @property
    def throughout(self) -> set[UUID]:
        """Those that were there at the first reading and are there now."""
        assert self.at_first is not None
        return self.at_first & {row.id for row in self.rows}


async def ids(rows: AsyncIterator[Row]) -> list[UUID]:
    return [row.id async for row in rows]


def promise_held(given: list[UUID], changing: ChangingList) -> None:
    assert len(given) == len(set(given)), "given twice"
    assert changing.throughout <= set(given), "lost"


class Changes:
    """Insertions and removals, so many before each reading, until there were enough of them."""

    def __init__(self, seed: int, inserted: float, removed: float, most: int) -> None:
        self._random = random.Random(seed)
        self._inserted = inserted
        self._removed = removed
        self._most = most

    def __call__(self, changing: ChangingList) -> None:
        for _ in range(self._number(self._inserted)):
            changing.insert(1)
            self._remove_some(changing)
        self._remove_some(changing)

    def _remove_some(self, changing: ChangingList) -> None:
        for _ in range(self._number(self._removed / 2)):
            changing.remove(self._random.randrange(1_000_000))

    def _number(self, mean: float) -> int:
        number = min(self._most, int(self._random.expovariate(1 / mean)) if mean else 0)
        self._most -= number
        return number


changes = st.builds(
    Changes,
    st.integers(0, 2**32),
    st.sampled_from([0, 0.3, 1, 3, 20]),
    st.sampled_from([0, 0.3, 1, 3, 20]),
    st.integers(0, 60),
)


@given(st.integers(0, 60), st.integers(1, 7), changes)
@settings(max_examples=1_000)
def test_a_walk_loses_nothing_that_stays_and_gives_nothing_twice(
    rows: int, size: int, change: Changes
) -> None:
    changing = ChangingList(rows, size, change)
    promise_held(asyncio.run(ids(aiter(Listing(changing.ask)))), changing)


class OutOfOrder(ChangingList):
    """Reads what is asked for at once in any order, and changes between those readings too."""

    def __init__(
        self, rows: int, size: int, change: Callable[[ChangingList], None], seed: int
    ) -> None:
        super().__init__(rows, size, change)
        self._random = random.Random(seed)
        self._waiting: list[asyncio.Event] = []
        self.most_at_once = 0

    async def ask(self, number: int) -> Page[Row]:
        turn = asyncio.Event()
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._release)
        await turn.wait()
        return self.read(number)

    def _release(self) -> None:
        self.most_at_once = max(self.most_at_once, len(self._waiting))
        self._random.shuffle(self._waiting)
        for turn in self._waiting:
            turn.set()
        self._waiting = []


async def streamed(changing: ChangingList, ahead: int) -> list[UUID]:
    async with Listing(changing.ask).stream(ahead) as rows:
        return await ids(rows)


@given(
    st.integers(0, 60),
    st.integers(1, 7),
    changes,
    st.integers(0, 2**32),
    st.sampled_from([1, 2, 4, 9]),
)
@settings(max_examples=1_000)
def test_a_stream_ahead_keeps_the_same_promise_in_whatever_order_pages_are_read(
    rows: int, size: int, change: Changes, seed: int, ahead: int
) -> None:
    changing = OutOfOrder(rows, size, change, seed)
    promise_held(asyncio.run(streamed(changing, ahead)), changing)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ahead", [None, 4])
def test_ten_thousand_rows_while_five_percent_are_inserted_and_removed(
    seed: int, ahead: int | None
) -> None:
    change = Changes(seed, 2, 2, most=1_000)
    changing = OutOfOrder(10_000, 40, change, seed)
    if ahead is None:
        got = asyncio.run(ids(aiter(Listing(changing.ask))))
    else:
        got = asyncio.run(streamed(changing, ahead))
    promise_held(got, changing)
    assert change._most == 0  # all of it has happened
    assert len(changing.throughout) > 9_000
    assert len(changing.reads) < 3 * 10_000 / 40


def still(_: ChangingList) -> None:
    pass


def test_a_list_that_stands_still_is_read_page_by_page_and_given_in_its_order() -> None:
    changing = ChangingList(10, 4, still)
    assert asyncio.run(ids(aiter(Listing(changing.ask)))) == [row.id for row in changing.rows]
    assert changing.reads == [1, 2, 3]


@pytest.mark.parametrize("rows", [0, 4, 8])
def test_a_full_last_page_is_the_last_that_is_asked_for(rows: int) -> None:
    changing = ChangingList(rows, 4, still)
    assert len(asyncio.run(ids(aiter(Listing(changing.ask))))) == rows
    assert changing.reads == list(range(1, max(1, rows // 4) + 1))


def test_a_stream_asks_ahead_and_once_more_for_the_first_page_after_each_lot() -> None:
    changing = OutOfOrder(40, 4, still, seed=1)
    assert asyncio.run(streamed(changing, 4)) == [row.id for row in changing.rows]
    assert changing.most_at_once == 4
    assert sorted(changing.reads) == sorted([*range(1, 11), 1, 1])  # the tenth page is alone


class Backwards(OutOfOrder):
    """Reads what is asked for at once from the last page to the first."""

    def _release(self) -> None:
        for turn in reversed(self._waiting):
            turn.set()
        self._waiting = []


def test_a_row_that_comes_for_one_that_goes_is_noticed_by_the_first_page() -> None:
    def change(changing: ChangingList) -> None:
        if changing.reads == [1, 5, 4, 3]:  # and the row that ended page 3 now begins page 4
            changing.insert(1)
            changing.remove(-1)

    changing = Backwards(12, 2, change, seed=0)
    promise_held(asyncio.run(streamed(changing, 4)), changing)


def test_a_row_that_comes_and_goes_again_is_noticed_by_the_count_of_a_page() -> None:
    def change(changing: ChangingList) -> None:
        if changing.reads == [1, 5, 4, 3]:
            changing.insert(1)
        if changing.reads == [1, 5, 4, 3, 2]:
            changing.remove(0)

    changing = Backwards(12, 2, change, seed=0)
    promise_held(asyncio.run(streamed(changing, 4)), changing)


def test_a_stream_is_only_so_many_pages_ahead_of_its_loop() -> None:
    async def first_row() -> int:
        async with Listing(changing.ask).stream(2) as rows:
            await anext(rows)
            for _ in range(50):
                await asyncio.sleep(0)
            return len(changing.reads)

    changing = OutOfOrder(4_000, 4, still, seed=1)
    assert asyncio.run(first_row()) < 10


def test_pages_come_with_their_numbers_from_the_one_that_was_asked_for() -> None:
    async def numbers() -> list[tuple[int, int, bool, int]]:
        return [
            (page.number, page.count, page.has_next, len(page.results))
            async for page in Listing(changing.ask).pages(start=2)
        ]

    changing = ChangingList(10, 4, still)
    assert asyncio.run(numbers()) == [(2, 10, True, 4), (3, 10, False, 2)]


def test_a_page_past_the_end_is_the_end_and_page_one_is_not() -> None:
    async def first_page(number: int) -> Page[Row]:
        return await anext(Listing(refusing).pages(number))

    async def refusing(number: int) -> Page[Row]:
        raise NotFoundError("Not found.", status=404)

    with pytest.raises(StopAsyncIteration):
        asyncio.run(first_page(7))
    with pytest.raises(NotFoundError):
        asyncio.run(first_page(1))


def test_a_server_that_promises_a_page_and_has_none_is_at_its_end() -> None:
    async def ask(number: int) -> Page[Row]:
        if number > 2:
            raise NotFoundError("Invalid page.", status=404)
        return msgspec.structs.replace(changing.read(number), has_next=True)

    changing = ChangingList(8, 4, still)
    assert len(asyncio.run(ids(aiter(Listing(ask))))) == 8
    assert changing.reads == [1, 2, 2, 2, 2]


def test_a_list_that_shrinks_by_much_is_not_searched_for_its_end_page_by_page() -> None:
    def shrink(shrinking: ChangingList) -> None:
        if len(shrinking.reads) == 500:
            del shrinking.rows[: len(shrinking.rows) - 50]

    changing = ChangingList(4_000, 4, shrink)
    promise_held(asyncio.run(ids(aiter(Listing(changing.ask)))), changing)
    assert len(changing.reads) < 500 + 5 + 50 / 4


def test_rows_that_come_and_go_before_every_reading_end_in_an_error() -> None:
    def toggle(changing: ChangingList) -> None:
        if len(changing.reads) % 2:
            changing.insert(1)
        else:
            changing.remove(0)

    changing = ChangingList(4_000, 4, toggle)
    with pytest.raises(UnstableListError, match="go away faster") as caught:
        asyncio.run(ids(aiter(Listing(changing.ask))))
    assert str(changing.rows[0].id) not in str(caught.value)
    assert len(changing.reads) < 120


def test_a_count_that_is_not_that_of_the_pages_ends_in_an_error() -> None:
    async def ask(number: int) -> Page[Row]:
        return msgspec.structs.replace(changing.read(number), count=1_000)

    changing = ChangingList(8, 4, still)
    with pytest.raises(UnstableListError, match="count"):
        asyncio.run(ids(aiter(Listing(ask))))


def test_leaving_the_loop_starts_no_task_and_leaves_none_behind() -> None:
    async def leave() -> None:
        listing = Listing(changing.ask)
        async for _ in listing:
            break
        async for _ in listing.pages():
            break
        assert len(asyncio.all_tasks()) == 1
        async with listing.stream() as rows:
            async for _ in rows:
                break
        assert len(asyncio.all_tasks()) == 1

    changing = ChangingList(100, 4, still)
    asyncio.run(leave())


def test_the_count_is_one_request() -> None:
    changing = ChangingList(100, 4, still)
    assert asyncio.run(Listing(changing.ask).count()) == 100
    assert changing.reads == [1]


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True])
def test_a_number_of_pages_that_is_none_is_refused_at_once(wrong: int) -> None:
    listing = Listing(ChangingList(1, 1, still).ask)
    for take in (listing.pages, listing.stream):
        with pytest.raises((ValueError, TypeError), match=r"start|ahead"):
            take(wrong)
