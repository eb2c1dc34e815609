"""One timer for all attempts does what asyncio.timeout does for each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilos_async._wire.deadlines import Deadlines
from tests.virtual_time import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


def run(work: Coroutine[object, object, T]) -> T:
    """Run it in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


async def sleep_within(deadlines: Deadlines, bound: float, sleep: float) -> tuple[str, float]:
    """How a sleep inside a bound ends, and after how long."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        with deadlines.within(bound):
            await asyncio.sleep(sleep)
    except TimeoutError:
        return "too late", loop.time() - began
    return "done", loop.time() - began


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(1, 50), st.integers(1, 50)),
        min_size=1,
        max_size=30,
    )
)
def test_each_block_ends_at_its_own_deadline_whatever_the_others_are(
    blocks: list[tuple[int, int, int]],
) -> None:
    async def later(start: int, bound: int, sleep: int) -> tuple[str, float]:
        await asyncio.sleep(start)
        return await sleep_within(deadlines, bound + 0.25, sleep)

    async def all_of_them() -> list[tuple[str, float]]:
        return await asyncio.gather(*(later(*block) for block in blocks))

    deadlines = Deadlines()
    for (_, bound, sleep), (ended, after) in zip(blocks, run(all_of_them()), strict=True):
        assert ended == ("done" if sleep <= bound else "too late")
        assert after == pytest.approx(min(sleep, bound + 0.25))
    assert not deadlines.open


def test_a_cancellation_of_the_task_goes_through_as_one() -> None:
    async def main() -> None:
        deadlines = Deadlines()
        task = asyncio.create_task(sleep_within(deadlines, 10, 20))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not deadlines.open

    run(main())


def test_a_cancellation_beside_the_deadline_wins() -> None:
    async def main() -> None:
        deadlines = Deadlines()
        task = asyncio.create_task(sleep_within(deadlines, 10, 20))
        await asyncio.sleep(1)
        deadlines.expire()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_a_task_can_go_on_after_its_deadline() -> None:
    async def main() -> None:
        deadlines = Deadlines()
        assert await sleep_within(deadlines, 1, 2) == ("too late", 1)
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()
        assert await sleep_within(deadlines, 3, 2) == ("done", 2)

    run(main())


def test_all_can_be_ended_at_once_and_new_ones_start_afresh() -> None:
    async def main() -> None:
        deadlines = Deadlines()
        tasks = [asyncio.create_task(sleep_within(deadlines, 10, 20)) for _ in range(3)]
        await asyncio.sleep(1)
        deadlines.expire()
        assert await asyncio.gather(*tasks) == [("too late", 1)] * 3
        assert await sleep_within(deadlines, 1, 2) == ("too late", 1)

    run(main())


def test_an_error_in_the_block_comes_out_as_it_is() -> None:
    async def main() -> None:
        deadlines = Deadlines()
        with pytest.raises(KeyError), deadlines.within(1):
            raise KeyError
        await asyncio.sleep(2)  # nobody is cancelled later

    run(main())


def test_a_deadline_that_is_due_at_once_under_uvloop_disturbs_no_other() -> None:
    """uvloop's timer that is due within half a millisecond does not tell when it rings."""
    uvloop = pytest.importorskip("uvloop")
    deadlines = Deadlines()

    async def all_of_them() -> list[tuple[str, float]]:
        bounds = [0.0001, 0.0002, 30.0] * 5
        return await asyncio.gather(*(sleep_within(deadlines, b, 0.01) for b in bounds))

    found = uvloop.run(all_of_them())
    assert [ended for ended, _ in found] == ["too late", "too late", "done"] * 5
    assert not deadlines.open
