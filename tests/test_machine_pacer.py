"""One limit for all processes of a machine: shared, learned once, and alone where nothing is shared."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

import aiohttp
import anyio
import pytest

from benchmarks import fleet
from hilos_async import RateLimit, Reply
from hilos_async._pace import machine, state_file
from hilos_async._pace.pacer import Quota
from hilos_async.machine import MachinePacer
from hilos_async.testing import FakeHilos, FakeLimit
from tests.asgi_server import listener
from tests.limiters.bed import Limiter, running
from tests.raw_server import ids

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

KEY: Final = "sk-9f8e7d6c5b4a-very-secret"
FIFTY: Final = RateLimit(50)


def bound(limit: RateLimit | None = FIFTY, scope: str = "scope") -> MachinePacer:
    pacer = MachinePacer(limit)
    pacer.bind(scope)
    return pacer


@pytest.fixture
async def two() -> AsyncIterator[list[MachinePacer]]:
    """Two pacers of one budget, each with the file open as another process has it."""
    pacers = [bound(), bound()]
    yield pacers
    for pacer in pacers:
        await pacer.flush()


def accepted(at: float) -> Reply:
    return Reply("accepted", at, at + 0.01)


# --- shared


async def test_two_processes_get_the_slots_of_one_limit(two: list[MachinePacer]) -> None:
    slots: list[float] = []
    for number in range(40):
        slot = await two[number % 2].reserve()
        two[number % 2].sent(slot)
        two[number % 2].report(accepted(slot))
        slots.append(slot)
    assert len(set(slots)) == 40
    assert slots == sorted(slots)
    assert slots[-1] - slots[0] >= 39 / 50


async def test_a_pause_holds_all_of_them(two: list[MachinePacer]) -> None:
    one, other = two
    slot = await one.reserve()
    await other.reserve()
    one.sent(slot)
    now = time.monotonic()
    one.report(Reply("refused", slot, now, 30.0, 30.0))
    assert now + 30 <= one.paused_until <= now + 31
    assert other.paused_until == one.paused_until
    assert await other.reserve() >= other.paused_until


async def test_after_a_pause_one_goes_first_of_all(two: list[MachinePacer]) -> None:
    one, other = two
    slot = await one.reserve()
    one.sent(slot)
    one.report(Reply("refused", slot, time.monotonic(), 0.05, 0.05))
    first = await one.reserve()
    asked = asyncio.create_task(other.reserve())
    await asyncio.sleep(0.02)
    assert not asked.done()
    one.sent(first)
    one.report(accepted(first))
    with anyio.fail_after(60):
        assert await asked > first


async def test_what_one_learns_the_other_keeps() -> None:
    one, other = bound(None), bound(None)
    slot = await one.reserve()
    assert other.pace().rate is None
    one.sent(slot)
    one.report(Reply("accepted", slot, slot + 0.01, quota=Quota(50, 1.0)))
    await other.reserve()
    assert other.pace().limit == one.pace().limit == FIFTY
    for pacer in (one, other):
        await pacer.flush()


async def test_a_told_limit_is_kept_whatever_others_have_learned() -> None:
    learner, told = bound(None), bound(RateLimit(10))
    await learner.reserve()
    slots = [await told.reserve() for _ in range(4)]
    assert slots[-1] - slots[0] >= 3 / 10
    assert told.pace().limit == RateLimit(10)
    for pacer in (learner, told):
        await pacer.flush()


async def test_other_keys_share_nothing_unless_they_are_named_alike() -> None:
    first = await bound(scope="a").reserve()
    assert await bound(scope="b").reserve() < first + 0.02 + 1.0
    named = [MachinePacer(FIFTY, name="acme") for _ in range(2)]
    for pacer, scope in zip(named, ("a", "b"), strict=True):
        pacer.bind(scope)
    slots = [await pacer.reserve() for pacer in named]
    assert slots[1] - slots[0] >= 0.02
    assert len(state_file.all_files()) == 3


async def test_one_pacer_serves_one_budget() -> None:
    pacer = bound()
    with pytest.raises(ValueError, match="name="):
        pacer.bind("another")
    with pytest.raises(RuntimeError, match="binds it"):
        await MachinePacer().reserve()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [({"limit": 5}, TypeError), ({"name": 5}, TypeError), ({"name": ""}, ValueError)],
)
def test_what_cannot_work_is_refused(arguments: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        MachinePacer(**arguments)  # type: ignore[arg-type]


async def test_the_key_is_in_no_file_and_no_name() -> None:
    async with FakeHilos(KEY) as fake, fake.session(pace="machine") as hilos:
        await hilos.gather_executions(ids(5))
    [path] = state_file.all_files()
    written = path.read_bytes()
    assert KEY.encode() not in written
    assert fake.base_url.encode() not in written
    assert KEY not in path.name


async def test_the_lock_is_never_held_while_somebody_waits(two: list[MachinePacer]) -> None:
    one, other = two
    slot = await one.reserve()
    one.sent(slot)
    one.report(Reply("refused", slot, time.monotonic(), 30.0, 30.0))
    await one.reserve()
    waiting = asyncio.create_task(one.reserve())  # for the reply of the one that goes first
    await asyncio.sleep(0)
    assert other._take()
    other._give()
    waiting.cancel()


# --- a lock that is held


async def test_what_was_to_be_told_while_it_is_held_is_told_later(two: list[MachinePacer]) -> None:
    one, other = two
    slot = await one.reserve()
    await other.reserve()
    assert other._take()
    one.sent(slot)
    one.report(accepted(slot))
    reserving = asyncio.create_task(one.reserve())
    await asyncio.sleep(0.01)
    assert not reserving.done()
    other._give()
    await reserving
    assert other._take()
    assert other._state.accepted == 1
    assert other._state.flying == []
    other._give()


async def test_a_session_that_closes_tells_the_file_what_is_untold(two: list[MachinePacer]) -> None:
    one, other = two
    slot = await one.reserve()
    await other.reserve()
    assert other._take()
    one.sent(slot)
    one.report(accepted(slot))
    asyncio.get_running_loop().call_later(0.01, other._give)
    await one.flush()
    assert other._take()
    assert other._state.accepted == 1
    other._give()


STOPPED = """
import asyncio, os, signal, sys
from hilos_async import RateLimit
from hilos_async.machine import MachinePacer

async def main():
    pacer = MachinePacer(RateLimit(50))
    pacer.bind("scope")
    for _ in range(3):
        pacer.sent(await pacer.reserve())
    assert pacer._take()
    print("taken", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)  # and, some day, it goes on
    pacer._give()
    pacer.sent(await pacer.reserve())
    print(len(pacer._state.flying), flush=True)

asyncio.run(main())
"""


async def test_a_process_that_is_stopped_while_it_holds_the_lock_stops_no_other() -> None:
    stopped = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STOPPED, stdout=subprocess.PIPE
    )
    assert stopped.stdout is not None
    try:
        assert await stopped.stdout.readline() == b"taken\n"
        pacer = bound()
        with anyio.fail_after(60):
            slots = [await pacer.reserve() for _ in range(2)]
        assert slots[1] - slots[0] >= 0.02
        assert len(pacer._state.flying) == 3  # it knows of those that went before
        for slot in slots:
            pacer.sent(slot)
        await pacer.flush()
        stopped.send_signal(signal.SIGCONT)
        # It sees the file that took the place of its own, and what is under way there.
        assert await stopped.stdout.readline() == b"6\n"
    finally:
        stopped.kill()
        await stopped.wait()


# --- a file that cannot be had


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_without_a_directory_it_keeps_the_pace_alone_and_warns_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/self/no")  # read-only for root as well
    async with (
        FakeHilos(limit=FakeLimit(50)) as fake,
        fake.session(pace=MachinePacer(FIFTY)) as hilos,
    ):
        batch = await hilos.gather_executions(ids(60))
        assert len(batch.executions) == 60
        assert fake.refused == 0
        assert hilos.stats.limit == FIFTY
    [warning] = warnings(caplog)
    assert warning.startswith("no pace is shared on this machine: /proc/self")
    assert "keeps a pace of its own" in warning


async def test_without_a_home_as_well(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    pacer = bound()
    slots = [await pacer.reserve() for _ in range(3)]
    assert slots[2] - slots[0] >= 0.04
    assert len(warnings(caplog)) == 1


FULL = """
import asyncio, logging, resource, sys
from hilos_async import RateLimit, Reply
from hilos_async.machine import MachinePacer

logging.basicConfig(format="%(message)s")

async def main():
    pacer = MachinePacer(RateLimit(50))
    pacer.bind("scope")
    for _ in range(2):
        await pacer.reserve()
    # From here on no file may grow: the log of a state lies further back in it.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    slots = []
    for _ in range(20):
        slots.append(await pacer.reserve())
        pacer.sent(slots[-1])
        pacer.report(Reply("accepted", slots[-1], slots[-1] + 0.01))
    print(slots[-1] - slots[0])

asyncio.run(main())
"""


def test_on_a_full_disk_it_keeps_the_pace_alone_and_warns_once() -> None:
    # A measurement of coverage could not write its own file there, and would say so.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-c", FULL]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=env)
    assert float(ended.stdout) >= 19 / 50
    assert ended.stderr.count("no pace is shared on this machine") == 1
    assert ended.stderr.count("\n") == 1


async def test_it_shares_again_once_the_file_can_be_had(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "_ALONE", 0.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("no directory")
    pacer = bound()
    first = await pacer.reserve()
    (tmp_path / "file").unlink()
    second = await pacer.reserve()
    assert second - first >= 0.02
    other = bound()
    assert await other.reserve() - second >= 0.02


# --- real processes


def test_four_processes_keep_one_limit() -> None:
    done = fleet.run(400, known=True, limit=50, latency=0.0, redis=False)
    assert done.fetched == 400
    assert done.refusals <= 40  # 0 as a rule, but for a server that stalls
    assert done.apart < 0.5


def test_four_processes_learn_one_limit() -> None:
    done = fleet.run(600, known=False, limit=50, latency=0.0, redis=False)
    assert done.fetched == 600
    assert done.refusals <= 50
    assert done.limit.endswith("/s")
    assert 40 <= float(done.limit[:-2]) <= 60


WORKER = """
import asyncio, json, os, signal, sys
from hilos_async import HilosSession, RateLimit
from hilos_async.machine import MachinePacer

url, token, number, dies_at = sys.argv[1:]
writes, pwrite = 0, os.pwrite

def half(fd, data, place):
    global writes
    writes += 1
    if writes == int(dies_at):
        pwrite(fd, data[: len(data) // 2], place)
        os.kill(os.getpid(), signal.SIGKILL)
    return pwrite(fd, data, place)

os.pwrite = half

async def main():
    start = 1000 * int(number)
    ids = [f"00000000-0000-4000-8000-{start + n:012}" for n in range(60)]
    async with HilosSession(token, base_url=url, pace=MachinePacer(RateLimit(50))) as hilos:
        batch = await hilos.gather_executions(ids)
        print(len(batch.executions), hilos.stats.refusals)

asyncio.run(main())
"""


async def test_one_that_is_killed_in_the_middle_of_a_reservation_takes_nobody_along() -> None:
    async with FakeHilos(limit=FakeLimit(50)) as fake:
        processes = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", WORKER, fake.base_url, fake.token),
                *(str(number), "61" if number == 0 else "0"),
                stdout=subprocess.PIPE,
            )
            for number in range(4)
        ]
        with anyio.fail_after(120):
            outputs = [await process.communicate() for process in processes]
        assert [process.returncode for process in processes] == [-signal.SIGKILL, 0, 0, 0]
        assert [output.split()[0] for output, _ in outputs[1:]] == [b"60"] * 3
        assert fake.refused <= 5


APP = """
from fastapi import FastAPI

from hilos_async import FlowExecution, HilosSession, RateLimit
from hilos_async.fastapi import HilosDep, hilos_lifespan
from hilos_async.machine import MachinePacer

app = FastAPI(lifespan=hilos_lifespan(lambda: HilosSession(pace=MachinePacer(RateLimit(5)))))


@app.get("/{id}")
async def campaign(id: str, hilos: HilosDep) -> FlowExecution:
    return await hilos.get_execution(id)


@app.get("/")
async def worker() -> int:
    import os

    return os.getpid()
"""
DRF_5: Final = Limiter(
    "drf-5", RateLimit(5), ("drf", "5/second"), ("django", "rest_framework", "waitress")
)


@pytest.mark.skipif(bool(DRF_5.missing), reason=str(DRF_5.missing))
async def test_the_workers_of_a_web_app_keep_5_per_second_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "app.py").write_text(APP)
    with running(DRF_5, work=True) as server:
        monkeypatch.setenv("HILOS_API_KEY", KEY)
        monkeypatch.setenv("HILOS_BASE_URL", server.url)
        sock = listener()
        port = sock.getsockname()[1]
        sock.close()
        uvicorn = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(tmp_path)),
            *("--workers", "4", "--port", str(port), "--log-level", "error"),
        )
        try:
            url = f"http://127.0.0.1:{port}"
            pids = await four_workers(url)
            async with aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True)
            ) as client:
                replies = await asyncio.gather(*(status(client, f"{url}/{id}") for id in ids(40)))
            assert replies == [200] * 40
            assert len(pids) == 4
        finally:
            uvicorn.terminate()
            await uvicorn.wait()
    assert server.accepted == 40
    assert server.refused == 0


async def four_workers(url: str) -> set[int]:
    """Wait until four processes have answered."""
    pids: set[int] = set()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as client:
        with anyio.fail_after(60):
            while len(pids) < 4:
                try:
                    async with client.get(url) as reply:
                        pids.add(await reply.json())
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.1)
    return pids


async def status(client: aiohttp.ClientSession, url: str) -> int:
    async with client.get(url) as reply:
        return reply.status


# --- the command


async def command(fake: FakeHilos, *argv: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hilos_async", *argv),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "HILOS_API_KEY": fake.token, "HILOS_BASE_URL": fake.base_url},
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_a_later_run_of_the_command_begins_at_the_limit_that_the_first_one_learned() -> None:
    asked = [str(UUID(int=number)) for number in range(120)]
    refused: list[int] = []
    async with FakeHilos(limit=FakeLimit(50, retry_after=1)) as fake:
        # A stall of this machine pushes requests together: then one more run shows it.
        while len(refused) < 2 or (refused[-1] and len(refused) < 4):
            fake.reset_counts()
            code, _, err = await command(fake, "gather", "--format", "csv", *asked)
            assert code == 0, err
            assert fake.accepted == 120
            refused.append(fake.refused)
        assert 1 <= refused[0] < 30
        assert refused[-1] == 0, refused
        _, out, _ = await command(fake, "pace")
        assert "/s learned" in out
        assert "HILOS_API_KEY" in out
        assert fake.token not in out
        code, out, err = await command(fake, "pace", "--forget")
        assert (code, out, err) == (0, "", "hilos: forgotten: 1\n")
        code, out, err = await command(fake, "pace")
        assert (code, out, err) == (0, "", "hilos: nothing is known on this machine\n")
        await command(fake, "gather", "--pace", "40/s", "--format", "csv", *asked[:5])
        assert state_file.all_files() == []  # a pace of its own


async def test_a_limit_is_forgotten_by_those_who_run_as_well() -> None:
    pacer = bound(None)
    pacer.report(Reply("accepted", 1.0, 1.1, quota=Quota(50, 1.0)))
    assert pacer.pace().limit == FIFTY
    [path] = state_file.all_files()
    state_file.StateFile(path).forget()
    await pacer.reserve()
    assert pacer.pace().limit is None
    await pacer.flush()
