"""Work of one turn of the loop is done back to back, and each gets its own outcome."""

from __future__ import annotations

import asyncio

import pytest

from hilos_async import DecodeError
from hilos_async._wire.burst import Burst

pytestmark = pytest.mark.anyio


def refuse() -> str:
    raise DecodeError("no")


def break_down() -> str:
    raise ZeroDivisionError


async def test_all_that_ask_in_one_turn_are_served_before_any_goes_on() -> None:
    order: list[str] = []
    burst = Burst()

    async def one(name: str) -> None:
        await burst.run(lambda: order.append(f"work {name}"))
        order.append(f"on {name}")

    await asyncio.gather(*(one(name) for name in "abc"))
    assert order == ["work a", "work b", "work c", "on a", "on b", "on c"]


async def test_an_error_is_its_own_askers_and_nobody_elses() -> None:
    burst = Burst()
    asked = (burst.run(lambda: "a"), burst.run(refuse), burst.run(break_down), burst.run(str))
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in found] == [str, DecodeError, ZeroDivisionError, str]


async def test_the_error_shows_nothing_that_the_others_work_on() -> None:
    burst = Burst()
    found = await asyncio.gather(burst.run(refuse), burst.run(str), return_exceptions=True)
    error = found[0]
    assert isinstance(error, DecodeError)
    frames: list[str] = []
    traceback = error.__traceback__
    while traceback is not None:
        frames.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert "_run_all" not in frames


async def test_who_is_cancelled_is_left_out() -> None:
    done: list[str] = []
    burst = Burst()
    tasks = [
        asyncio.create_task(burst.run(lambda name=name: done.append(name)))  # type: ignore[misc]  # mypy infers no lambda with a default
        for name in "ab"
    ]
    asyncio.get_running_loop().call_soon(tasks[0].cancel)
    await asyncio.wait(tasks)
    assert done == ["b"]
    assert tasks[0].cancelled()
