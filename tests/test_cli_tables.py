"""Tables on terminals of any width: one line a row, and never wider than the terminal."""

import os
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilos_async import FlowExecution
from hilos_async.cli import _table, _totals
from hilos_async.cli._table import Column
from hilos_async.testing import FakeHilos, Fault
from tests.screen import screen
from tests.test_cli import below_the_bar, in_process, process, terminal, without_progress

pytestmark = pytest.mark.anyio

KEY = "a-key-that-nobody-may-see"
IDS = [UUID(f"3f2b6c1e-0000-4000-8000-{number:012}") for number in range(1, 6)]
ONE, TWO, THREE, FOUR, FIVE = map(str, IDS)


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[FakeHilos]:
    async with FakeHilos(KEY) as server:
        monkeypatch.setenv("HILOS_API_KEY", KEY)
        monkeypatch.setenv("HILOS_BASE_URL", server.base_url)
        monkeypatch.chdir(tmp_path)
        flow = cast("dict[str, object]", server.document(ONE)["flow"])
        server.put(ONE, flow=flow | {"name": "Encuesta de satisfacción (clientes nuevos)"},
                   status="AWAITING_CONFIRMATION", num_contacts=1_234_567, completed=0, running=0,
                   failed=0, expired=0, canceled=0)  # fmt: skip
        server.put(TWO, flow=flow | {"name": "[red]🎉 Promo"}, status="RUNNING",
                   num_contacts=1_000, completed=500, running=250, failed=100, expired=50,
                   canceled=50)  # fmt: skip
        yield server


@pytest.fixture(params=[True, False], ids=["rich", "plain"])
def env(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The environment of a process that has rich, or has not."""
    if request.param:
        return {}
    (tmp_path / "without" / "rich").mkdir(parents=True)
    (tmp_path / "without" / "rich" / "__init__.py").write_text("raise ImportError\n")
    found = (str(tmp_path / "without"), os.environ.get("PYTHONPATH"))
    return {"PYTHONPATH": os.pathsep.join(filter(None, found))}


def seen(written: str) -> list[str]:
    return [line for line in screen(below_the_bar(written)) if line]


# --- executions


@pytest.mark.parametrize("command", ["get", "gather"])
@pytest.mark.parametrize(
    ("columns", "header"),
    [
        (40, "id status flow"),
        (60, "id status contacts rate flow"),
        (80, "id status contacts completed rate flow"),
        (100, "id status contacts completed rate last run flow"),
    ],
)
async def test_an_execution_is_one_line_with_a_short_id(
    columns: int, header: str, command: str, env: dict[str, str], fake: FakeHilos
) -> None:
    ended = await terminal(command, ONE, TWO, columns=columns, env=env)
    assert ended.code == 0
    table = seen(ended.out)
    assert max(map(_table.width_of, table)) <= columns
    assert len(table) == 3
    assert " ".join(table[0].split()) == header
    assert table[1].startswith("000000000001  AWAITING")
    assert table[2].startswith("000000000002  RUNNING")
    assert "Encuesta" in table[1]
    assert "[red]🎉" in table[2]


async def test_a_wide_terminal_shows_all_of_it(env: dict[str, str], fake: FakeHilos) -> None:
    ended = await terminal("get", ONE, TWO, columns=160, env=env)
    table = seen(ended.out)
    assert len(table) == 3
    for whole in (ONE, TWO, "AWAITING_CONFIRMATION", "1,234,567", "0.0%", "(clientes nuevos)"):
        assert whole in "\n".join(table)


# --- totals


SUMMARY = ["gather", ONE, TWO, THREE, "--summary"]


async def test_a_summary_has_a_bar_for_each_status(env: dict[str, str], fake: FakeHilos) -> None:
    fake.put(THREE, status="RUNNING", num_contacts=0, completed=0, running=0, failed=0, expired=0,
             canceled=0)  # fmt: skip
    ended = await terminal(*SUMMARY, columns=80, env=env)
    assert ended.code == 0
    marks = "#=x-." if env else "█▓▒░·"
    bars = ["##########=====xx--.", "." * 20]
    drawn = [bar.translate(str.maketrans("#=x-.", marks)) for bar in bars]
    assert [" ".join(line.split()) for line in seen(ended.out)] == [
        "status executions contacts completed what became of them",
        f"RUNNING 2 1,000 500 {drawn[0]}",
        f"AWAITING_CONFIRMATION 1 1,234,567 0 {drawn[1]}",
        "{} completed {} running {} failed {} expired or canceled {} not begun".format(*marks),
    ]


@pytest.mark.parametrize("columns", [40, 60, 80, 100])
@pytest.mark.parametrize("by", ["status", "flow"])
async def test_a_summary_fits_its_terminal(
    by: str, columns: int, env: dict[str, str], fake: FakeHilos
) -> None:
    ended = await terminal(*SUMMARY[:-1], "--by", by, columns=columns, env=env)
    table = seen(ended.out)
    assert max(map(_table.width_of, table)) <= columns
    assert table[0].split()[0] == by
    assert table[0].endswith("what became of them")
    assert re.search(r"completed .*running", table[-1] if columns > 60 else table[-2])


async def test_in_a_pipe_a_summary_is_numbers_alone(fake: FakeHilos) -> None:
    ended = await process(*SUMMARY[:3], "--by", "flow")
    assert (ended.code, without_progress(ended.err)) == (0, "")
    assert [re.split(r" {2,}", line) for line in ended.out.splitlines()] == [
        ["flow", "executions", "contacts", "completed"],
        ["[red]🎉 Promo", "2", "1,235,567", "500"],
    ]


async def test_a_summary_is_of_a_table_alone(
    fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in (["--summary"], ["--by", "flow"]):
        ended = await in_process(capsys, "gather", ONE, "--format", "csv", *option)
        assert (ended.code, ended.out) == (2, "")
        assert "a summary is a table: leave out --format csv" in ended.err
    assert fake.requests == 0


@given(st.lists(st.integers(0, 10**6), min_size=6, max_size=6))
def test_a_bar_is_always_as_long(counts: list[int]) -> None:
    names = ("num_contacts", "completed", "running", "failed", "expired", "canceled")
    fields: dict[str, object] = dict(zip(names, counts, strict=True))
    drawn = _totals.bar([cast("FlowExecution", type("Counts", (), fields))])
    assert len(drawn) == 20
    assert re.fullmatch(r"#*=*x*-*\.*", drawn)


# --- what gives way


@given(
    st.lists(
        st.builds(
            Column,
            header=st.text("abcdefgh", min_size=1, max_size=12),
            right=st.booleans(),
            least=st.none() | st.integers(1, 12),
            drop=st.integers(0, 3),
        ),
        min_size=1,
        max_size=6,
    ),
    st.data(),
    st.integers(1, 120),
)
def test_a_table_is_as_wide_as_its_terminal_or_as_narrow_as_it_can_be(
    columns: Sequence[Column], data: st.DataObject, room: int
) -> None:
    text = st.text("ab 🎉é\u0301字", max_size=25)
    rows = data.draw(st.lists(st.tuples(*(text for _ in columns)), max_size=4))
    kept, cells = _table.fitted(columns, rows, room)
    lines = _table._plain(kept, cells).splitlines()
    assert len(lines) == 1 + len(rows)
    widest = max(map(_table.width_of, lines))
    least = sum(
        max(_table.width_of(text) for text in (column.header, *(row[at] for row in rows)))
        if column.least is None
        else column.least
        for at, column in enumerate(columns)
        if not column.drop
    )
    must = [column for column in columns if not column.drop]
    if must and least + _table.GAP * (len(must) - 1) <= room:
        assert widest <= room
    assert sum(not column.drop for column in kept) == len(must)


# --- prose


@pytest.mark.parametrize("columns", [40, 60])
async def test_the_help_breaks_between_words(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    ended = await in_process(capsys, "--help")
    # The names of the commands, in one word, are argparse's.
    told = [line for line in ended.out.splitlines() if "{demo," not in line]
    assert max(map(len, told)) <= columns


async def test_the_demo_breaks_its_prose_between_words(env: dict[str, str]) -> None:
    ended = await terminal("demo", columns=60, env=env)
    assert ended.code == 0
    assert max(map(_table.width_of, screen(ended.out))) <= 60
    words = re.sub(r"\s+", " ", ended.out)
    assert re.search(r"requests failed \(503, reset, cut short\); \d+ were sent again\.", words)
    assert "HILOS_API_KEY and HILOS_BASE_URL say whom to ask:" in words


@pytest.mark.parametrize("columns", [40, 60, 80])
async def test_the_words_beside_a_bar_fit_too(
    columns: int, env: dict[str, str], fake: FakeHilos
) -> None:
    fake.faults.append(Fault.delay(1.5, ids=[TWO]))
    ended = await terminal("get", ONE, TWO, columns=columns, env=env)
    assert ended.code == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", ended.out)
    assert re.search(r"[#━]+[-─]+\]? 1 of 2, [\d.]+/s, \d+ s left *\r", plain)
