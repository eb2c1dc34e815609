"""A cancelled export leaves only once its thread has: until then the file is locked, and nobody's else.

And a file that something else has changed meanwhile is not overwritten.
"""

import asyncio
import contextlib
import json
import os
import re
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import anyio
import pytest

from hilos_async import HilosSession, Lookup
from hilos_async.export import ExportError, ExportProgress, export_executions
from hilos_async.export import _export as steps
from hilos_async.export import _run as run_of_export
from hilos_async.export import _tables as tables
from hilos_async.export._records import Record, Records
from hilos_async.testing import FakeHilos

# Files of a few lines may block these tests' loop:
# ruff: noqa: ASYNC240

pytestmark = pytest.mark.anyio

PATIENCE = 60.0
IDS = [uuid5(NAMESPACE_URL, f"cancelled {number}") for number in range(12)]
ONE, TWO, *_ = IDS


@pytest.fixture
async def fake() -> AsyncIterator[FakeHilos]:
    async with FakeHilos() as server:
        yield server


@pytest.fixture
async def hilos(fake: FakeHilos) -> AsyncIterator[HilosSession]:
    async with fake.session(pace="off") as session:
        yield session


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.ndjson"


def ids_in(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text(encoding="utf-8").splitlines()]


class Held:
    """A step of an export that stays in its thread until it is let go."""

    def __init__(self, really: Callable[..., object]) -> None:
        self._really = really
        self.begun, self._go_on, self._ended = (threading.Event() for _ in range(3))

    def has_ended(self) -> bool:
        return self._ended.is_set()

    def let_go(self) -> None:
        self._go_on.set()

    def step(self) -> Callable[..., object]:
        def held(*arguments: object) -> object:
            self.begun.set()
            assert self._go_on.wait(PATIENCE)
            try:
                return self._really(*arguments)
            finally:
                self._ended.set()

        return held


STEPS: dict[str, tuple[type, str, str]] = {
    "open": (steps._Run, "open", "out.ndjson"),
    "sync": (Records, "sync", "out.ndjson"),
    "compaction": (Records, "compact", "out.ndjson"),
    "the end of a csv": (tables.CSV, "finish", "out.csv"),
    "the end of an xlsx": (tables.XLSX, "finish", "out.xlsx"),
}


@pytest.mark.parametrize("way", ["cancel", "cancel twice", "timeout", "wait_for", "anyio"])
@pytest.mark.parametrize("name", STEPS)
async def test_a_cancelled_export_keeps_its_lock_until_its_thread_has_ended(
    name: str, way: str, fake: FakeHilos, hilos: HilosSession, out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    owner, step, file = STEPS[name]
    held = Held(getattr(owner, step))
    limit, scope = asyncio.timeout(None), anyio.CancelScope()

    async def export() -> None:
        async with limit:
            with scope:
                await export_executions(hilos, [ONE], out.with_name(file))

    with monkeypatch.context() as patched:
        patched.setattr(owner, step, held.step())
        patched.setattr(run_of_export, "_SYNCED", -1.0)  # a sync after every line
        task = asyncio.create_task(export())
        waiting: list[asyncio.Task[None]] = [task]
        try:
            assert await anyio.to_thread.run_sync(held.begun.wait, PATIENCE)
            if way == "timeout":
                limit.reschedule(asyncio.get_running_loop().time())
            elif way == "anyio":
                scope.cancel()
            elif way == "wait_for":
                waiting.append(asyncio.create_task(asyncio.wait_for(task, 0.001)))
                while not task.cancelling() and not task.done():  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            else:
                task.cancel()
            for _ in range(10):
                await asyncio.sleep(0)
                if way == "cancel twice":
                    task.cancel()
            assert not task.done()
            with pytest.raises(ExportError, match="another export is writing"):
                await export_executions(hilos, [TWO], out)
            assert not held.has_ended()
        finally:
            held.let_go()
            await asyncio.wait(waiting)
    assert held.has_ended()
    if way == "timeout":
        assert isinstance(task.exception(), TimeoutError)
    elif way == "wait_for":
        assert isinstance(waiting[1].exception(), TimeoutError)
    assert task.cancelled() is (way not in ("timeout", "anyio"))
    assert await export_executions(hilos, [ONE, TWO], out)
    assert sorted(ids_in(out)) == sorted(map(str, (ONE, TWO)))
    assert not [each for each in out.parent.iterdir() if each.name.startswith(".")]


# The command in a process of its own, with two Ctrl-C while the lines are joined.
INTERRUPTED = """
import os, signal, sys, time
from hilos_async.cli import main
from hilos_async.export._records import Records

join = Records.compact

def interrupted(records):
    lock = records.path.with_name(f".{records.path.name}.hilos-lock")
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)  # long enough to be gone, if it were to go
    print("locked" if lock.exists() else "not locked", flush=True)
    join(records)

Records.compact = interrupted
sys.exit(main(sys.argv[1:]))
"""


async def test_two_ctrl_c_leave_no_traceback_no_hidden_file_and_no_unlocked_writing(
    fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    fake.put(ONE, status="RUNNING")
    await export_executions(hilos, [ONE], out)
    (out.parent / "ids.txt").write_text(str(ONE), encoding="utf-8")
    command = [sys.executable, "-W", "error", "-c", INTERRUPTED]
    command += ["export", "--ids", "ids.txt", "-o", str(out), "--refresh"]
    env = {**os.environ, "HILOS_API_KEY": fake.token, "HILOS_BASE_URL": fake.base_url}
    with anyio.fail_after(PATIENCE):
        ended = await anyio.run_process(command, check=False, env=env, cwd=out.parent)
    told = ended.stderr.decode()
    assert (ended.returncode, ended.stdout) == (130, b"locked\n"), told
    assert re.sub(r"\s+", " ", told) == (
        "hilos: stopped: 1 of 1 ids are in out.ndjson; the same command goes on from there "
    )
    assert ids_in(out) == [str(ONE)]
    assert {path.name for path in out.parent.iterdir()} == {"ids.txt", "out.ndjson"}


READING = INTERRUPTED.replace("Records.compact", "Records._read")


async def test_ctrl_c_while_the_file_is_read_says_that_what_is_in_it_stays(
    fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    await export_executions(hilos, IDS, out)
    (out.parent / "ids.txt").write_text(str(ONE), encoding="utf-8")
    command = [sys.executable, "-W", "error", "-c", READING]
    command += ["export", "--ids", "ids.txt", "-o", str(out)]
    env = {**os.environ, "HILOS_API_KEY": fake.token, "HILOS_BASE_URL": fake.base_url}
    with anyio.fail_after(PATIENCE):
        ended = await anyio.run_process(command, check=False, env=env, cwd=out.parent)
    told = ended.stderr.decode()
    assert (ended.returncode, ended.stdout) == (130, b"locked\n"), told
    assert told == (
        "hilos: stopped: nothing has been asked yet; what is in out.ndjson stays, and the same "
        "command goes on from there\n"
    )
    assert len(ids_in(out)) == 12


# --- something else writes to the file


def moved(out: Path) -> None:
    out.rename(out.with_name("elsewhere.ndjson"))


def replaced(out: Path) -> None:
    new = out.with_name("new")
    new.write_bytes(out.read_bytes())
    new.replace(out)


def appended(out: Path) -> None:
    with out.open("ab") as file:
        file.write(b'{"id":"x","error":{"type":"E","message":"m"}}\n')


def cut(out: Path) -> None:
    os.truncate(out, 10)


@pytest.mark.parametrize("change", [moved, replaced, appended, cut])
@pytest.mark.parametrize("joins", [False, True])
async def test_a_file_that_something_else_has_changed_is_left_as_it_is(
    joins: bool, change: Callable[[Path], None], fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    fake.put(ONE, status="RUNNING")
    if joins:
        await export_executions(hilos, [ONE], out)

    def change_it(told: ExportProgress) -> None:
        if told.done == 2:
            change(out)
            left.extend(out.read_bytes() if out.exists() else b"")

    left: list[int] = []
    with pytest.raises(ExportError, match=r"something else has changed .*out\.ndjson") as raised:
        await export_executions(
            hilos, [ONE, TWO], out.with_suffix(".csv"), refresh=True, on_progress=change_it
        )
    assert raised.value.path == out
    assert (out.read_bytes() if out.exists() else b"") == bytes(left)
    assert not out.with_suffix(".csv").exists()
    assert not [each for each in out.parent.iterdir() if each.name.startswith(".")]


async def test_a_file_that_changes_while_its_lines_are_joined_is_left_as_it_is(
    fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    record = Record.of(Lookup(ONE, await hilos.get_execution(ONE)))
    with contextlib.closing(Records(out, Record)) as records:
        records.append(record)
        records.append(record)
    check = records.check
    times = [False, True]

    def check_and_append() -> None:
        check()
        if times.pop():
            appended(out)

    records.check = check_and_append  # type: ignore[method-assign]  # the moment between two steps
    with pytest.raises(ExportError, match="something else has changed"):
        records.compact()
    assert ids_in(out) == [str(ONE), str(ONE), "x"]


async def test_a_table_takes_no_line_for_that_of_another_id(out: Path) -> None:
    lines = [b'{"id":"%s","error":{"type":"E","message":"m"}}\n' % str(id).encode() for id in IDS]
    out.write_bytes(b"".join(lines))
    with contextlib.closing(Records(out, Record)) as records:
        out.write_bytes(b"".join(reversed(lines)))
        with pytest.raises(ExportError, match="something else has changed"):
            list(records.in_order([id.bytes for id in IDS], also=()))
