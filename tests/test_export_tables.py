"""The cells of a CSV and of a sheet: text stays text for every reader, and no cut is silent."""

import csv
import io
import json
import logging
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC
from pathlib import Path
from typing import cast
from uuid import UUID

import anyio.to_thread
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hilos_async import FlowExecution, HilosSession
from hilos_async.cli import main
from hilos_async.export import Record, export_executions
from hilos_async.export._columns import EXECUTIONS
from hilos_async.export._tables import CSV, inert
from hilos_async.testing import FakeHilos

# Files of a few lines may block these tests' loop:
# ruff: noqa: ASYNC240

pytestmark = pytest.mark.anyio

ONE = UUID("3f2b6c1e-0000-4000-8000-000000000001")
SIGNS = "=+-@＝＋－＠"  # noqa: RUF001 - full-width signs work in Excel, too


@pytest.fixture
async def fake() -> AsyncIterator[FakeHilos]:
    async with FakeHilos() as server:
        yield server


@pytest.fixture
async def hilos(fake: FakeHilos) -> AsyncIterator[HilosSession]:
    async with fake.session(pace="off") as session:
        yield session


def named(name: str) -> Record:
    """A record whose flow has that name."""
    document = FakeHilos().document(ONE)
    document["flow"] = cast("dict[str, object]", document["flow"]) | {"name": name}
    return Record(id=str(ONE), execution=FlowExecution.from_json(json.dumps(document)))


def written(*records: Record, bom: bool = False) -> bytes:
    file = io.BytesIO()
    with CSV(file, EXECUTIONS, UTC, bom=bom) as table:
        for record in records:
            table.add(record)
        table.finish()
    return file.getvalue()


# --- CSV


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("=1", "'=1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@a", "'@a"),
        ("\t1", "'\t1"),
        ("\r1", "'\r1"),
        ("\n1", "'\n1"),
        ("  =1", "'  =1"),
        ('"=1+1"', '\'"=1+1"'),
        ("＋1", "'＋1"),  # noqa: RUF001
        ("Promo;=cmd|'/C calc'!A0;", "Promo;'=cmd|'/C calc'!A0;"),
        ("Promo\r=1+1", "Promo\r'=1+1"),
        ("Promo\n=1+1", "Promo\n'=1+1"),
        ("a,b\t @c", "a,b\t' @c"),
        ('a;"=1"', 'a;\'"=1"'),
        ("\t=2", "'\t'=2"),
        ("0012345678901234567890", "'0012345678901234567890"),
        ("5215512345678901234", "'5215512345678901234"),
        ("00042", "'00042"),
        ("1e5", "'1e5"),
        (" 7", "' 7"),
        ("24/7", "'24/7"),
        ("1-2", "'1-2"),
        ("10:30", "'10:30"),
        ("1.2", "'1.2"),  # the first of February, where a comma is the decimal sign
        ("50%", "'50%"),
        ("55 1234 5678", "'55 1234 5678"),
    ],
)
def test_what_a_spreadsheet_would_run_or_change_gets_an_apostrophe(text: str, safe: str) -> None:
    assert inert(text) == safe


@pytest.mark.parametrize(
    "text",
    ["", " ", "a=1", "1+1", "'=1", "é", "a-b; c", "v1.2", "0", "42", "123456789012345", "2026-03-01",
     "Año nuevo, 24/7", str(ONE), "a,b;c\td\ne"],
)  # fmt: skip
def test_other_text_stays_as_it_is(text: str) -> None:
    assert inert(text) == text


@given(st.text(alphabet=st.sampled_from(f"aé1 0,;\t\r\n\"'|\v\x85\u2028\xa0{SIGNS}"), max_size=30))
@example("Promo\r=1+1")
@example('";=1')
@example('a""\n"=1')
def test_no_reader_finds_a_formula_whatever_it_takes_for_a_separator(name: str) -> None:
    document = written(named(name)).decode()
    rows = list(csv.reader(io.StringIO(document, newline="")))
    assert [len(row) for row in rows] == [len(EXECUTIONS.header)] * 2
    assert rows[1][EXECUTIONS.header.index("flow")] == inert(name)
    for separator in ",;\t":
        for row in csv.reader(io.StringIO(document, newline=""), delimiter=separator):
            for cell in row:
                assert not cell.lstrip(' \xa0"').startswith(tuple(SIGNS)), (separator, row)


def test_a_lone_carriage_return_does_not_end_a_row() -> None:
    # csv before 3.11.9 and 3.12.3 quotes it only where the end of a line has one.
    line = written(named("Promo\rnew")).split(b"\n", 1)[1]
    assert b'"Promo\rnew"' in line
    assert line.endswith(b"\n")
    assert not line.endswith(b"\r\n")


def test_a_byte_order_mark_is_there_on_request() -> None:
    plain, marked = written(named("Confirmación")), written(named("Confirmación"), bom=True)
    assert not plain.startswith(b"\xef\xbb\xbf")
    assert marked == b"\xef\xbb\xbf" + plain


async def test_an_export_for_excel_begins_with_the_mark(
    fake: FakeHilos, hilos: HilosSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "out.csv"
    await export_executions(hilos, [ONE], out, bom=True)
    assert out.read_bytes().startswith(b"\xef\xbb\xbfid,")
    for name in ("out.ndjson", "out.xlsx"):
        with pytest.raises(ValueError, match=r"bom=True is for a \.csv"):
            await export_executions(hilos, [ONE], tmp_path / name, bom=True)
    assert fake.requests == 1
    monkeypatch.setenv("HILOS_API_KEY", fake.token)
    monkeypatch.setenv("HILOS_BASE_URL", fake.base_url)
    monkeypatch.chdir(tmp_path)
    Path("ids.txt").write_text(str(ONE), encoding="utf-8")
    export = ["export", "--ids", "ids.txt", "--excel", "-o"]
    assert await anyio.to_thread.run_sync(main, [*export, "other.csv"]) == 0
    assert Path("other.csv").read_bytes() == out.read_bytes()
    gather = ["gather", "--ids", "ids.txt", "--excel", "--format"]
    assert await anyio.to_thread.run_sync(main, [*gather, "csv"]) == 0
    assert capsys.readouterr().out.startswith("\ufeffid,status,")
    assert await anyio.to_thread.run_sync(main, [*export, "out.xlsx"]) == 2
    assert await anyio.to_thread.run_sync(main, [*gather, "json"]) == 2
    told = capsys.readouterr()
    assert "--excel is for a .csv; out.xlsx needs none" in told.err
    assert "--excel is for --format csv" in told.err
    assert told.out == ""


# --- XLSX


@pytest.mark.parametrize("letter", ["x", "é", "\N{PARTY POPPER}"])
@pytest.mark.parametrize("more", [0, 1, 40_000])
async def test_a_text_too_long_for_a_cell_is_marked_and_told(
    letter: str, more: int, fake: FakeHilos, hilos: HilosSession, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    openpyxl = pytest.importorskip("openpyxl")
    units = 2 if letter == "\N{PARTY POPPER}" else 1  # of UTF-16, which Excel counts
    text = letter * (32_767 // units + more)
    fake.put(ONE, status_reason=text)
    with caplog.at_level(logging.WARNING, logger="hilos_async"):
        report = await export_executions(hilos, [ONE], tmp_path / "out.xlsx")
    assert bool(report)
    sheet = openpyxl.load_workbook(tmp_path / "out.xlsx").active
    found = sheet.cell(2, EXECUTIONS.header.index("status_reason") + 1).value
    assert len(found.encode("utf-16-le")) // 2 <= 32_767
    told = [record for record in caplog.records if record.name.startswith("hilos_async.export")]
    if more == 0:
        assert (found, report.cut, told) == (text, 0, [])
    else:
        mark = f"… [cut: {len(text):,} characters]"
        assert found.endswith(mark)
        assert text.startswith(found.removesuffix(mark))
        assert len(found.encode("utf-16-le")) // 2 > 32_765
        assert report.cut == 1
        assert len(told) == 1
        assert "cells cut: 1 (Excel" in told[0].getMessage()


async def test_the_command_says_that_a_cell_was_cut(
    fake: FakeHilos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    fake.put(ONE, status_reason="x" * 40_000)
    monkeypatch.setenv("HILOS_API_KEY", fake.token)
    monkeypatch.setenv("HILOS_BASE_URL", fake.base_url)
    monkeypatch.chdir(tmp_path)
    Path("ids.txt").write_text(str(ONE), encoding="utf-8")
    export = ["export", "--ids", "ids.txt", "-o", "out.xlsx"]
    assert await anyio.to_thread.run_sync(main, export) == 0
    assert "cells cut: 1 (Excel" in capsys.readouterr().err


async def test_the_rows_of_a_sheet_wait_beside_it_and_not_in_the_systems_directory(
    hilos: HilosSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a full disk is the one that the message names."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "full"))
    left = tmp_path / ".out.xlsx.hilos-spool"
    left.mkdir()
    (left / "half").write_text("of a killed export")
    await export_executions(hilos, [ONE], tmp_path / "out.xlsx")
    assert {path.name for path in tmp_path.iterdir()} == {"out.xlsx", "out.ndjson"}
