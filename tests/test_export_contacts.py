"""The export of contacts: every one once, through kills, faults and lists that change under way."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio
import pytest

from hilos_async import (
    AuthenticationError,
    HilosSession,
    InvalidIdError,
    RetryPolicy,
    SessionClosedError,
)
from hilos_async.export import (
    ContactProgress,
    ExportError,
    export_contacts,
    export_executions,
)
from hilos_async.testing import FakeHilos, FakeLimit, Fault

# Files of a few lines may block these tests' loop:
# ruff: noqa: ASYNC240

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

PATIENCE = 120.0
ONE, TWO, THREE = (UUID(f"a1b2c3d4-0000-4000-8000-1234567890a{letter}") for letter in "bcd")
SIZES = {ONE: 90, TWO: 45, THREE: 0}


@pytest.fixture(params=[False, True], ids=["activecampaign", "native"])
async def fake(request: pytest.FixtureRequest) -> AsyncIterator[FakeHilos]:
    async with FakeHilos(native=request.param) as server:
        for id, size in SIZES.items():
            server.put(id, **counters(size))
        yield server


@pytest.fixture
async def hilos(fake: FakeHilos) -> AsyncIterator[HilosSession]:
    async with fake.session(pace="off", retry=RetryPolicy(attempts=1)) as session:
        yield session


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.ndjson"


def counters(size: int) -> dict[str, Any]:
    ended = {"completed": size // 2, "failed": size // 9, "expired": size // 9}
    return {"num_contacts": size, "running": 0, "canceled": 0, **ended}


def contacts(path: Path) -> dict[str, dict[str, Any]]:
    """The contacts in the file, by id; each must be there once."""
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = [line for line in found if "contact" in line]
    assert all(count == 1 for count in Counter(line["id"] for line in found).values())
    return {line["id"]: line for line in found}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


async def test_every_contact_is_a_line_with_its_execution(
    fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    report = await export_contacts(hilos, [ONE, str(TWO).upper(), ONE, THREE], out)
    assert (report.executions, report.contacts, report.added, report.failed) == (3, 135, 135, 0)
    assert report
    found = contacts(out)
    assert Counter(line["execution_id"] for line in found.values()) == {
        str(ONE): 90,
        str(TWO): 45,
    }
    assert fake.violations == []
    again = await export_contacts(hilos, [ONE, TWO, THREE], out)
    assert (again.contacts, again.added) == (135, 0)
    assert fake.requests == 3 + 2 + 1  # of the first run


async def test_a_list_that_broke_off_is_walked_again_and_writes_nobody_twice(
    fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    fake.faults = [Fault.status(500, ids=[TWO])]
    report = await export_contacts(hilos, [ONE, TWO], out)
    assert (bool(report), report.failed, report.contacts) == (False, 1, 90)
    fake.faults = [Fault.body(b"<html>", ids=[TWO], share=0.5, times=1)]
    while not report:
        report = await export_contacts(hilos, [ONE, TWO], out)
    assert (report.failed, len(contacts(out))) == (0, 135)
    [mark] = [
        line
        for line in map(json.loads, out.read_text(encoding="utf-8").splitlines())
        if str(TWO) in line["id"]
    ]
    assert mark == {"id": f"contacts of {TWO}", "walked": 45}


async def test_refresh_brings_each_contact_up_to_date(
    fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    await export_contacts(hilos, [ONE], out)
    now: dict[str, Any] = counters(90) | {"completed": 90, "failed": 0, "expired": 0}
    fake.put(ONE, **now)
    report = await export_contacts(hilos, [ONE], out, refresh=True)
    assert (report.contacts, report.added) == (90, 0)
    assert {line["contact"]["status"] for line in contacts(out).values()} == {"COMPLETED"}


async def test_a_table_has_a_row_for_each_contact_and_a_column_for_each_answer(
    fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    report = await export_contacts(
        hilos, [ONE], out.with_suffix(".csv"), tz="America/Mexico_City", bom=True
    )
    rows = table(report.path)
    assert len(rows) == len(contacts(out)) == 90
    for row, line in zip(rows, contacts(out).values(), strict=True):
        contact = line["contact"]
        assert (row["id"], row["execution_id"]) == (line["id"], str(ONE))
        assert row["status"] == contact["status"]
        assert row["phone"] == f"'{contact['contact']['phone']}"  # no formula
        assert row["meta.ciudad"] == contact["contact"]["meta"]["ciudad"]
        answer = contact["contact"]["meta"].get("satisfaccion", "")
        assert row["meta.satisfaccion"] == str(answer)
        assert row["created_on"].endswith("-06:00")
    assert any(row["meta.comentario"] == "'=1+1" for row in rows)


async def test_a_workbook_holds_the_same(fake: FakeHilos, hilos: HilosSession, out: Path) -> None:
    await export_contacts(hilos, [ONE, TWO], out.with_suffix(".xlsx"))
    openpyxl = pytest.importorskip("openpyxl")
    [sheet] = openpyxl.load_workbook(out.with_suffix(".xlsx")).worksheets
    header, *rows = sheet.iter_rows(values_only=True)
    assert sheet.title == "contacts"
    assert len(rows) == len({row[0] for row in rows}) == 135
    place = header.index("meta.satisfaccion")
    assert {type(row[place]) for row in rows} == {int, type(None)}


async def test_an_export_of_executions_and_one_of_contacts_take_each_other_for_no_export(
    fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    await export_contacts(hilos, [ONE], out)
    before = out.read_bytes()
    with pytest.raises(ExportError, match="line 1 is none of an export"):
        await export_executions(hilos, [ONE], out)
    assert out.read_bytes() == before
    out.unlink()
    await export_executions(hilos, [ONE], out)
    with pytest.raises(ExportError, match="line 1 is none of an export"):
        await export_contacts(hilos, [ONE], out)


async def test_a_list_that_changes_under_way_loses_nobody_who_stays(
    hilos: HilosSession, fake: FakeHilos, out: Path
) -> None:
    await export_contacts(hilos, [ONE], out)
    before = contacts(out).keys()
    out.unlink()
    fake.shift = 2.0
    await export_contacts(hilos, [ONE], out)
    fake.shift = 0.0
    stayed = before & {str(row.id) async for row in hilos.list_execution_contacts(execution=ONE)}
    assert stayed <= contacts(out).keys()


async def test_progress_counts_rows_and_knows_the_total_at_the_last_list(
    fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    told: list[ContactProgress] = []
    await export_contacts(hilos, [ONE, TWO], out, on_progress=told.append)
    assert [(progress.done, progress.total) for progress in told] == [
        (0, None),
        (40, None),
        (80, None),
        (90, None),
        (130, 135),
        (135, 135),
    ]
    told.clear()
    await export_contacts(hilos, [ONE, TWO], out, on_progress=told.append)
    assert [(progress.done, progress.there) for progress in told] == [(0, 135)]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"executions": ["x"]}, InvalidIdError),
        ({"executions": str(ONE)}, TypeError),
        ({"path": "out.txt"}, ValueError),
        ({"bom": True}, ValueError),
        ({"tz": "Nowhere"}, ValueError),
    ],
)
async def test_bad_input_is_refused_before_any_request(
    arguments: Any, error: type[Exception], fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    given: dict[str, Any] = {"executions": [ONE], "path": out, **arguments}
    with pytest.raises(error):
        await export_contacts(hilos, **given)
    assert fake.requests == 0


async def test_a_refused_key_and_a_closed_session_come_out_and_keep_what_there_was(
    fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    def revoke(progress: ContactProgress) -> None:
        if progress.done:
            fake.revoke()

    with pytest.raises(AuthenticationError):
        await export_contacts(hilos, [ONE, TWO], out, on_progress=revoke)
    assert len(contacts(out)) == 40
    await hilos.aclose()
    with pytest.raises(SessionClosedError):
        await export_contacts(hilos, [ONE], out)
    assert len(contacts(out)) == 40


# --- from a flow to a workbook, in one command


async def test_a_flow_in_one_command_at_five_requests_a_second_killed_twice(
    tmp_path: Path,
) -> None:
    out = tmp_path / "report.xlsx"
    limit = FakeLimit(5, headers="activecampaign", lockout=30.0)
    async with FakeHilos(limit=limit) as fake:
        flow = fake.flows[2]
        wanted = 0
        for number in range(4):
            body = [{"phone": f"+52155{number}{place:07}"} for place in range(70 + number)]
            fake.start(flow, body)
            wanted += len(body)
        async with fake.session() as hilos:
            fake.limit = None
            for row in [row async for row in hilos.list_executions(flow=flow)]:
                if row.num_contacts > 80:
                    fake.remove(row.id)
            fake.limit = limit
        fake.reset_counts()
        command = [sys.executable, "-W", "error", "-m", "hilos_async", "export"]
        command += ["--flow", str(flow), "-o", str(out), "--pace", "5/s"]
        env = {**os.environ, "HILOS_API_KEY": fake.token, "HILOS_BASE_URL": fake.base_url}
        with anyio.fail_after(PATIENCE):
            for moment in (4, 9):
                export = await asyncio.create_subprocess_exec(*command, env=env, stderr=-1)
                while fake.requests < moment and export.returncode is None:  # noqa: ASYNC110
                    await anyio.sleep(0.001)
                export.send_signal(signal.SIGKILL)
                await export.communicate()
                assert export.returncode == -signal.SIGKILL
            last = await anyio.run_process(command, env=env, check=False)
        assert last.returncode == 0, last.stderr.decode()
        assert f"report.xlsx: {wanted} contacts of 4 executions" in last.stderr.decode()
        openpyxl = pytest.importorskip("openpyxl")
        [sheet] = openpyxl.load_workbook(out).worksheets
        header, *rows = sheet.iter_rows(values_only=True)
        phones = Counter(row[header.index("phone")] for row in rows)
        assert len(phones) == wanted
        assert set(phones.values()) == {1}
        assert fake.refused == 0
        assert fake.violations == []
        # What a kill costs: the list that was being walked is walked again, and that of executions.
        assert fake.requests <= 3 + 4 * 2 + 2 * 2 + 2
