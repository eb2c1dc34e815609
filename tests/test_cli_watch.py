"""`hilos watch` as its users meet it: a live table on a terminal, plain lines elsewhere."""

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast
from uuid import UUID

import anyio
import pytest

from hilos_async import Change, FlowExecution, HilosError, NotFoundError
from hilos_async.cli import _board, _ids, _rich, _show, _watch
from hilos_async.testing import FakeHilos, Fault
from tests.screen import screen
from tests.test_cli import HILOS, PATIENCE, in_process, process, terminal

pytestmark = pytest.mark.anyio

KEY = "a-key-that-nobody-may-see"
IDS = [UUID(f"3f2b6c1e-0000-4000-8000-{number:012}") for number in range(1, 6)]
ONE, TWO, THREE, *_ = map(str, IDS)
STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[FakeHilos]:
    async with FakeHilos(KEY) as server:
        monkeypatch.setenv("HILOS_API_KEY", KEY)
        monkeypatch.setenv("HILOS_BASE_URL", server.base_url)
        monkeypatch.chdir(tmp_path)
        yield server


def named(fake: FakeHilos, id: str, name: str, status: str, **fields: object) -> None:
    flow = cast("dict[str, object]", fake.document(id)["flow"])
    fake.put(id, flow=flow | {"name": name}, status=status, **fields)


def counted(completed: int, of: int = 100, status: str = "RUNNING") -> FlowExecution:
    fake = FakeHilos()
    fake.put(
        ONE, status=status, num_contacts=of, completed=completed, failed=0, expired=0, canceled=0
    )
    return FlowExecution.from_json(json.dumps(fake.document(ONE)))


async def ends_soon(fake: FakeHilos, *ids: str, after: int) -> None:
    """Complete the executions once they have been asked for so often."""
    while fake.requests < after:  # noqa: ASYNC110 - it is for another process to happen
        await anyio.sleep(0.01)
    for id in ids:
        fake.put(id, status="COMPLETED", num_contacts=1_000, completed=1_000, running=0)


# --- a terminal


async def test_on_a_terminal_it_is_a_table_with_a_bar_for_each(fake: FakeHilos) -> None:
    named(fake, ONE, "Año nuevo: promoción (clientes nuevos)", "COMPLETED",
          num_contacts=1_000, completed=900, failed=100, expired=0, canceled=0)  # fmt: skip
    named(fake, TWO, "[red]\x1b[2J", "RUNNING",
          num_contacts=1_000, completed=500, failed=0, expired=0, canceled=0)  # fmt: skip
    fake.remove(THREE)
    Path("ids.txt").write_text(f"{TWO}\n{THREE}\nnonsense\n", encoding="utf-8")  # noqa: ASYNC240
    ending = asyncio.create_task(ends_soon(fake, TWO, after=3))
    seen = await terminal("watch", ONE, "--ids", "ids.txt")
    await ending
    assert seen.code == 1
    shown = screen(seen.out)
    assert max(map(len, shown)) <= 80
    table = [re.split(r" {2,}", line) for line in shown[2:]]
    assert table == [
        ["id", "flow", "status", "done", "completed"],
        [
            "000000000001",
            "Año nuevo: promoción …",
            "COMPLETED",
            "━" * 12,
            "100%",
            "900/1,000",
        ],
        ["000000000002", "[red]\ufffd[2J", "COMPLETED", "━" * 12, "100%", "1,000/1,000"],
        ["000000000003", "not found", "─" * 12],
        ["nonsense", "no id", "─" * 12],
        [shown[-2]],
        [""],
    ]
    assert re.fullmatch(
        r"4 of 4 ended \(2 COMPLETED, 1 not found, 1 no id\) · 4 requests in \d+ s", shown[-2]
    )
    assert "━" * 6 + "─" * 6 in re.sub(r"\x1b\[\d*m", "", seen.out)  # before: half of it
    assert seen.out.count("\x1b[?25l") == seen.out.count("\x1b[?25h") == 1  # the cursor is back


async def test_ctrl_c_leaves_the_table_and_a_word(fake: FakeHilos) -> None:
    fake.put(ONE, status="RUNNING")
    seen = await terminal("watch", ONE, interrupt_at="RUNNING")
    assert seen.code == 130
    *table, last, rest = screen(seen.out)
    assert "RUNNING" in table[1]
    assert (last, rest) == ("hilos: stopped: 0 of 1 ended, 1 in progress (1 RUNNING)", "")
    assert "Traceback" not in seen.out


async def test_rows_that_do_not_fit_give_way_to_those_that_move() -> None:
    rows = [_board.Row(f"{n:08}", "A flow", "COMPLETED", ended=True, moved=n) for n in range(1, 41)]
    for at in (0, 39):
        rows[at].ended = False
    rows[5].status = "AWAITING_CONFIRMATION"
    table = _rich.LiveTable()
    table._console.size = (60, 12)
    with table._console.capture() as captured:
        table.draw(rows, "the foot " * 20)
        table.close()
    shown = [line for line in screen(captured.get()) if line]
    assert [line[:8] for line in shown[1:-2]] == [
        f"{n:08}" for n in (1, 34, 35, 36, 37, 38, 39, 40)
    ]
    assert shown[-2] == "and 32 more"
    assert len(shown[-1]) <= 60
    assert shown[-1].endswith("…")


async def test_a_terminal_that_goes_away_does_not_end_the_watch(
    fake: FakeHilos, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Gone:
        def draw(self, rows: object, foot: str) -> None:
            raise OSError("gone")

        close = draw

    monkeypatch.setattr(_rich, "LiveTable", Gone)
    monkeypatch.setattr(Gone, "close", lambda self: self.draw([], ""))
    monkeypatch.setattr(_show, "is_terminal", lambda stream: True)
    fake.put(ONE, status="COMPLETED")
    assert (await in_process(capsys, "watch", ONE)).code == 0


# --- elsewhere


async def test_elsewhere_it_is_one_plain_line_for_each_change(fake: FakeHilos) -> None:
    named(fake, ONE, "A flow", "RUNNING",
          num_contacts=1_000, completed=500, failed=0, expired=0, canceled=0)  # fmt: skip
    fake.remove(TWO)
    ending = asyncio.create_task(ends_soon(fake, ONE, after=2))
    ended = await process("watch", ONE, TWO)
    await ending
    assert (ended.code, ended.err) == (1, "")
    expected = [
        rf"{STAMP}  {ONE}  RUNNING  50% done  500/1,000 completed  A flow",
        rf"{STAMP}  {TWO}  failed: GET flow-execution/{TWO} got 404.*",
        rf"{STAMP}  {ONE}  RUNNING -> COMPLETED  100% done  1,000/1,000 completed  A flow",
    ]
    shown = ended.out.splitlines()
    assert len(shown) == 3
    for line, pattern in zip(shown, expected, strict=True):
        assert re.fullmatch(pattern, line), line


@pytest.mark.parametrize("columns", [60, 80, 100])
async def test_without_the_extra_a_terminal_gets_lines_broken_between_words_and_is_told_of_it(
    columns: int, fake: FakeHilos, tmp_path: Path
) -> None:
    name = "Encuesta de satisfacción (clientes nuevos del norte)"
    named(fake, ONE, name, "RUNNING",
          num_contacts=1_000, completed=999, failed=0, expired=0, canceled=0)  # fmt: skip
    fake.remove(TWO)
    (tmp_path / "rich").mkdir()
    (tmp_path / "rich" / "__init__.py").write_text("raise ImportError('no rich here')\n")
    ending = asyncio.create_task(ends_soon(fake, ONE, after=2))
    pythonpath = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    ended = await terminal("watch", ONE, TWO, columns=columns, env={"PYTHONPATH": pythonpath})
    await ending
    assert ended.code == 1
    shown = screen(ended.out)
    assert max(map(len, shown)) <= columns
    words = re.sub(r"\s+", " ", ended.out)
    assert re.match(r"hilos: the extra cli makes a live table of this: pip install ", words)
    short = "000000000001"
    assert re.search(rf" {short} RUNNING 99% done 999/1,000 completed {re.escape(name)} ", words)
    assert f"{short} RUNNING -> COMPLETED 100% done 1,000/1,000 completed {name}" in words
    assert f"000000000002 failed: GET flow-execution/{TWO} got 404" in words


async def test_only_what_is_worth_a_line_gets_one(capsys: pytest.CaptureFixture[str]) -> None:
    lines = _watch._Lines()
    for completed in (0, 1, 9, 10, 19, 20, 20):
        lines.take(Change(id=IDS[0], after=counted(completed)))
    lines.take(Change(id=IDS[0], error=HilosError("no answer\x1b[2J\n")))
    lines.take(Change(id=IDS[0], after=counted(20), ended=True))
    shown = [line.split("  ", 2)[2] for line in capsys.readouterr().out.splitlines()]
    assert [line.partition(" completed")[0] for line in shown] == [
        "RUNNING  0% done  0/100",
        "RUNNING  10% done  10/100",
        "RUNNING  20% done  20/100",
        "failed: no answer\ufffd[2J\ufffd; it will be asked again",
        "RUNNING  20% done  20/100",
    ]


async def test_a_failure_that_passes_is_told_and_asked_again(
    fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.put(ONE, status="COMPLETED")
    fake.faults.append(Fault.body(b"{}", times=1))
    ended = await in_process(capsys, "watch", ONE)
    assert ended.code == 0
    first, second = ended.out.splitlines()
    assert first.endswith("; it will be asked again")
    assert "COMPLETED" in second


async def test_a_refused_key_is_3(
    fake: FakeHilos, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HILOS_API_KEY", "another-secret")
    ended = await in_process(capsys, "watch", ONE, TWO)
    assert (ended.code, ended.out) == (3, "")
    assert "got 401" in ended.err
    assert "another-secret" not in ended.err


async def test_when_the_time_is_up_it_is_1(
    fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.put(ONE, status="RUNNING")
    ended = await in_process(capsys, "watch", ONE, "--timeout", "2")
    assert ended.code == 1
    assert ended.err == "hilos: the time is up: 0 of 1 ended, 1 in progress (1 RUNNING)\n"


async def test_ctrl_c_in_a_pipe_is_130(fake: FakeHilos) -> None:
    fake.put(ONE, status="RUNNING")
    command = await asyncio.create_subprocess_exec(
        *HILOS, "watch", ONE, stdout=-1, stderr=-1, start_new_session=True
    )
    assert command.stdout is not None
    with anyio.fail_after(PATIENCE):
        assert b"RUNNING" in await command.stdout.readline()
        os.killpg(command.pid, signal.SIGINT)
        _, told = await command.communicate()
    assert command.returncode == 130
    assert told == b"hilos: stopped: 0 of 1 ended, 1 in progress (1 RUNNING)\n"


# --- the board


def test_ids_are_short_where_that_tells_them_apart() -> None:
    first, second = UUID(int=1 << 100), UUID(int=2 << 100)
    assert _ids.short([first, second]) == {first: "00000010", second: "00000020"}
    assert set(_ids.short(IDS[:2]).values()) == {"000000000001", "000000000002"}
    alike = [UUID(int=1), UUID(int=1 + (1 << 64))]
    assert _ids.short(alike) == {id: str(id) for id in alike}
    assert _ids.short([first, "a text that is no id\x1b"])["a text that is no id\x1b"] == (
        "a text that "
    )


def test_a_share_counts_all_who_are_through() -> None:
    assert _board.share_done(counted(25)) == 0.25
    assert _board.share_done(counted(0, of=0)) == 0.0
    assert _board.share_done(counted(0, of=0, status="COMPLETED")) == 1.0
    assert _board.share_done(counted(120)) == 1.0


def test_the_board_in_words() -> None:
    board = _board.Board([*IDS, "x"])
    assert board.tally() == "0 of 6 ended, 6 not asked yet"
    board.take(Change(id=IDS[0], after=counted(25)))
    board.take(Change(id=IDS[1], error=NotFoundError("no", status=404), ended=True))
    board.take(Change(id=IDS[2], error=HilosError("later")))
    assert board.tally() == (
        "1 of 6 ended (1 not found), 2 in progress (1 RUNNING, 1 no answer), 3 not asked yet"
    )
    assert board.failed == 1
    board.take(Change(id=IDS[2], after=counted(100, status="COMPLETED"), ended=True))
    assert board.foot(65.2, 1_234, 29.6) == (
        "2 of 6 ended (1 not found, 1 COMPLETED), 1 in progress (1 RUNNING), 3 not asked yet"
        " · 1,234 requests in 65 s · paused for 30 s"
    )


# --- narrow terminals


@pytest.mark.parametrize(
    ("columns", "header", "first", "second"),
    [
        (40, "id flow status done", "00000001 Encuesta d… AWAITING_C… 0%", "00000002 RUNNING 29%"),
        (60, "id flow status done", "00000001 Encuesta de s… AWAITING_CONF… ──────────── 0%",
         "00000002 RUNNING ━━━───────── 29%"),
        (80, "id flow status done completed",
         "00000001 Encuesta de sati… AWAITING_CONFIRMA… ──────────── 0% 0/1,234,567",
         "00000002 RUNNING ━━━───────── 29% 29/100"),
    ],
)  # fmt: skip
def test_a_narrow_table_leaves_columns_out_and_stays_one_line_a_row(
    columns: int, header: str, first: str, second: str
) -> None:
    rows = [
        _board.Row("00000001", "Encuesta de satisfacción (clientes nuevos)",
                   "AWAITING_CONFIRMATION", 0.0, "0%", "0/1,234,567"),
        _board.Row("00000002", "", "RUNNING", 0.29, "29%", "29/100"),
    ]  # fmt: skip
    table = _rich.LiveTable()
    table._console.size = (columns, 12)
    with table._console.capture() as captured:
        table.draw(rows, "the foot " * 20)
        table.close()
    shown = [line for line in screen(captured.get()) if line]
    assert max(map(len, shown)) <= columns
    assert [" ".join(line.split()) for line in shown[:3]] == [header, first, second]
    assert len(shown) == 4


@pytest.mark.parametrize(("completed", "percent"), [(0, "0%"), (995, "99%"), (1_000, "100%")])
def test_nothing_says_100_percent_that_is_not_done(completed: int, percent: str) -> None:
    assert _board.percent_done(counted(completed, of=1_000)) == percent
    assert _board.percent_done(counted(0, of=0)) == "0%"
    assert _board.percent_done(counted(0, of=0, status="COMPLETED")) == "100%"
