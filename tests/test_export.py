"""The export: what a kill, a crash, a full disk or a rival may cost, and what its files hold."""

import asyncio
import contextlib
import csv
import errno
import io
import json
import os
import pickle
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import NAMESPACE_URL, UUID, uuid5
from zoneinfo import ZoneInfo

import anyio
import pytest

from hilos_async import (
    AuthenticationError,
    FlowExecution,
    HilosError,
    HilosSession,
    Lookup,
    SessionClosedError,
)
from hilos_async._extras import install_command
from hilos_async.export import ExportError, ExportProgress, ExportReport, export_executions
from hilos_async.export import _files as files
from hilos_async.export import _records as records
from hilos_async.export._columns import EXECUTIONS
from hilos_async.export._tables import check_size
from hilos_async.testing import FakeHilos, Fault

# Files of a few lines may block these tests' loop:
# ruff: noqa: ASYNC240

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

pytestmark = pytest.mark.anyio

KEY = "a-key-that-nobody-may-see"
PATIENCE = 60.0
IDS = [uuid5(NAMESPACE_URL, str(number)) for number in range(12)]
ONE, TWO, THREE, FOUR, *_ = IDS


@pytest.fixture
async def fake() -> AsyncIterator[FakeHilos]:
    async with FakeHilos(KEY) as server:
        yield server


@pytest.fixture
async def hilos(fake: FakeHilos) -> AsyncIterator[HilosSession]:
    async with fake.session(pace="off") as session:
        yield session


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.ndjson"


def documents(path: Path) -> dict[str, dict[str, Any]]:
    """What the file holds, by id; each must be there once."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    assert all(line.endswith("\n") for line in lines)
    found = [json.loads(line) for line in lines]
    assert all(count == 1 for count in Counter(document["id"] for document in found).values())
    assert all(document.keys() in ({"id", "execution"}, {"id", "error"}) for document in found)
    return {document["id"]: document for document in found}


def beside(path: Path) -> set[str]:
    """What else an export has left in the directory."""
    return {other.name for other in path.parent.iterdir()} - {path.name}


# --- killed


async def test_ten_kills_cost_no_id_and_no_more_than_what_was_under_way(
    fake: FakeHilos, tmp_path: Path
) -> None:
    count, kills, at_once = 3_000, 10, 20
    wanted = [uuid5(NAMESPACE_URL, f"killed {number}") for number in range(count)]
    ids, out = tmp_path / "ids.txt", tmp_path / "out.ndjson"
    ids.write_text("".join(f"{id}\n" for id in wanted), encoding="utf-8")
    command = [sys.executable, "-W", "error", "-m", "hilos_async", "export", "--ids", str(ids)]
    command += ["-o", str(out), "--pace", "off", "--max-concurrency", str(at_once)]
    env = {**os.environ, "HILOS_API_KEY": KEY, "HILOS_BASE_URL": fake.base_url}
    seed = random.randrange(10**6)
    moments = sorted(random.Random(seed).sample(range(count - 100), kills))
    with anyio.fail_after(PATIENCE):
        for moment in moments:
            export = await asyncio.create_subprocess_exec(*command, env=env, stderr=-1)
            while fake.requests < moment and export.returncode is None:  # noqa: ASYNC110
                await anyio.sleep(0.001)
            export.send_signal(signal.SIGKILL)
            _, told = await export.communicate()
            assert export.returncode == -signal.SIGKILL, (seed, told.decode())
        last = await anyio.run_process(command, env=env, check=False)
    assert last.returncode == 0, (seed, last.stderr.decode())
    found = documents(out)
    assert found.keys() == {str(id) for id in wanted}
    assert all("execution" in document for document in found.values())
    assert fake.requests - count <= kills * at_once, seed
    print(f"seed {seed}, killed at {moments}: {fake.requests - count} requests more than {count}")
    assert beside(out) == {"ids.txt"}


async def test_what_is_there_is_not_asked_again(
    fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    first = await export_executions(hilos, IDS[:5], out)
    assert (first.total, first.asked, first.failed, first.others) == (5, 5, 0, 0)
    before = out.read_bytes()
    second = await export_executions(hilos, [*map(str, IDS), str(ONE).upper()], out)
    assert (second.total, second.asked, bool(second)) == (12, 7, True)
    assert fake.requests == 12
    assert out.read_bytes().startswith(before)
    third = await export_executions(hilos, [ONE], out)
    assert (third.total, third.asked, third.others) == (1, 0, 11)
    assert documents(out).keys() == {str(id) for id in IDS}


async def test_a_line_is_an_execution_that_reads_back_as_the_same(
    fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    fake.put(ONE, status="A_NEW_WORD", status_reason="line\nline\u2028\x85é🎉")
    await export_executions(hilos, [ONE], out)
    written = json.dumps(documents(out)[str(ONE)]["execution"])
    assert FlowExecution.from_json(written) == await hilos.get_execution(ONE)


@pytest.mark.parametrize("left", ["{", '{"id":"3f2b', "half", "zeros", "damaged in the middle"])
async def test_what_a_crash_has_torn_is_dropped_and_asked_again(
    left: str, fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    await export_executions(hilos, IDS[:3], out, max_concurrency=1)
    whole = out.read_bytes()
    first, second, third = whole.splitlines(keepends=True)
    torn = {
        "half": first + second + third[: len(third) // 2],
        "zeros": first + second + b"\0" * 500,
        "damaged in the middle": first + second[:100] + b"\0" * 100 + b"\n" + third,
    }.get(left, first + second + left.encode())
    out.write_bytes(torn)
    report = await export_executions(hilos, IDS[:3], out)
    assert report.asked == 1
    assert sorted(out.read_bytes().splitlines()) == sorted(whole.splitlines())


async def test_a_last_line_that_only_lacks_its_end_is_kept(
    fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    await export_executions(hilos, IDS[:3], out)
    whole = out.read_bytes()
    out.write_bytes(whole[:-1])
    assert (await export_executions(hilos, IDS[:3], out)).asked == 0
    assert out.read_bytes() == whole
    out.write_bytes(whole[:-1])
    assert (await export_executions(hilos, IDS[:5], out.with_suffix(".csv"))).asked == 2
    assert out.read_bytes().startswith(whole)
    assert documents(out).keys() == {str(id) for id in IDS[:5]}
    assert list(read_csv(out.with_suffix(".csv"))) == [str(id) for id in IDS[:5]]


@pytest.mark.parametrize(
    "content",
    [
        "Dear diary",
        "name,phone\nAna,+52\n",
        '{"id":"3f2b6c1e-0000-4000-8000-000000000001","name":"another kind of line"}',
        '[\n{"id":"3f2b6c1e-0000-4000-8000-000000000001"}\n]\n',
        '{"id":"a","execution":{"status":"READY"},"error":{"type":"x","message":"y"}}\n',
    ],
)
async def test_a_file_that_is_no_export_is_left_alone(
    content: str, fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    out.write_text(content, encoding="utf-8")
    with pytest.raises(ExportError, match="is none of an export: it is left as it is") as raised:
        await export_executions(hilos, IDS, out)
    assert raised.value.path == out
    assert out.read_text(encoding="utf-8") == content
    assert fake.requests == 0
    assert beside(out) == set()


async def test_a_record_that_cannot_be_read_ends_a_table_not_the_records(
    hilos: HilosSession, out: Path
) -> None:
    line = b'{"id":"a","execution":{"status":"READY"}}\n'
    out.write_bytes(line)
    with pytest.raises(ExportError, match="the line of a cannot be read"):
        await export_executions(hilos, ["a"], out.with_suffix(".csv"))
    assert out.read_bytes() == line
    assert beside(out) == set()


# --- asked again


async def test_failed_lookups_are_asked_again_when_that_is_wanted(
    fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    fake.remove(TWO)
    fake.faults.append(Fault.body(b"{}", ids=[THREE], times=1))
    report = await export_executions(hilos, [ONE, TWO, THREE, "nonsense"], out)
    assert (report.failed, report.invalid, bool(report)) == (3, 1, False)
    found = documents(out)
    assert found[str(TWO)]["error"].keys() == {"type", "message", "status"}
    assert found[str(TWO)]["error"]["status"] == 404
    assert found["nonsense"]["error"]["type"] == "InvalidIdError"
    assert (await export_executions(hilos, [ONE, TWO, THREE], out)).asked == 0
    again = await export_executions(hilos, [ONE, TWO, THREE, "nonsense"], out, retry_errors=True)
    assert (again.asked, again.failed) == (2, 2)
    assert fake.asked == {ONE: 1, TWO: 2, THREE: 2}
    assert documents(out).keys() == {str(ONE), str(TWO), str(THREE), "nonsense"}


async def test_what_had_not_ended_is_asked_again_when_that_is_wanted(
    fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    fake.put(ONE, status="RUNNING")
    fake.put(TWO, status="COMPLETED")
    fake.put(THREE, status="A_NEW_WORD")
    fake.remove(FOUR)
    await export_executions(hilos, IDS[:4], out)
    fake.put(ONE, status="COMPLETED")
    assert (await export_executions(hilos, IDS[:4], out, refresh=True)).asked == 2
    found = documents(out)
    assert found[str(ONE)]["execution"]["status"] == "COMPLETED"
    assert len(found) == 4
    assert (await export_executions(hilos, IDS[:4], out, refresh=True)).asked == 1


async def test_a_refresh_that_is_killed_loses_neither_the_old_nor_the_new_lines(
    fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    for id in IDS[:4]:
        fake.put(id, status="RUNNING")
    await export_executions(hilos, IDS[:4], out)
    before = out.read_bytes()
    fake.put(ONE, status="COMPLETED")
    fake.faults.append(Fault.delay(PATIENCE, ids=IDS[1:4]))

    def interrupt(told: ExportProgress) -> None:
        if told.done:
            scope.cancel()  # as Ctrl-C does: the lines are not joined

    with anyio.CancelScope() as scope:
        await export_executions(hilos, IDS[:4], out, refresh=True, on_progress=interrupt)
    killed = out.read_bytes()
    assert killed.startswith(before)
    assert len(killed.splitlines()) == 5
    # What a crash leaves that came while the new file was being written:
    part = out.with_name(".out.ndjson.hilos-part")
    part.write_bytes(b'{"id":"half')
    assert (await export_executions(hilos, IDS[:4], out)).asked == 0
    found = documents(out)
    assert len(found) == 4
    assert found[str(ONE)]["execution"]["status"] == "COMPLETED"
    assert beside(out) == set()


# --- locks


async def test_two_exports_do_not_write_one_file(
    fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    fake.faults.append(Fault.delay(PATIENCE))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(export_executions, hilos, IDS, out)
        while not fake.requests:  # noqa: ASYNC110 - it is for the other task to happen
            await anyio.sleep(0.005)
        with pytest.raises(ExportError, match=rf"another export .*: process {os.getpid()} on "):
            await export_executions(hilos, [ONE], out.with_suffix(".csv"))
        tasks.cancel_scope.cancel()
    assert beside(out) == set()
    fake.faults.clear()
    assert (await export_executions(hilos, IDS, out)).asked == 12


async def test_the_lock_of_a_killed_process_is_free(
    fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    code = "import sys, pathlib, time; from hilos_async.export._files import locked\n"
    code += "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(99)"
    with subprocess.Popen([sys.executable, "-c", code, out], stdout=-1, text=True) as rival:  # noqa: ASYNC220
        assert rival.stdout is not None
        assert rival.stdout.readline() == "held\n"
        with pytest.raises(ExportError, match=f"process {rival.pid} on "):
            await export_executions(hilos, [ONE], out)
        rival.kill()
    assert (await export_executions(hilos, [ONE], out)).asked == 1
    assert beside(out) == set()


async def test_a_lock_that_its_holder_has_just_removed_is_taken_anew(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = out.with_name(".out.ndjson.hilos-lock")
    times = iter([True, False])
    really = files._lock

    def removed_once(descriptor: int) -> bool:
        if next(times):
            lock.unlink()
        return really(descriptor)

    monkeypatch.setattr(files, "_lock", removed_once)
    with files.locked(out):
        assert lock.exists()
    assert not lock.exists()


# --- tables


def strings(rows: list[list[Any]]) -> dict[str, dict[str, Any]]:
    header, *body = rows
    return {row[0]: dict(zip(header, row, strict=True)) for row in body}


def read_csv(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return strings(list(csv.reader(file)))


def read_xlsx(path: Path) -> dict[str, dict[str, Any]]:
    openpyxl = pytest.importorskip("openpyxl")
    sheet = openpyxl.load_workbook(path).active
    assert all(cell.data_type != "f" for row in sheet.iter_rows() for cell in row)
    return strings([[cell.value for cell in row] for row in sheet.iter_rows()])


NAMES = [
    "=1+1",
    "+52 55",
    "-1",
    "@SUM(A1)",
    " =cmd|'/C calc'!A0",
    "\t=2",
    "\uff1d1",
    "00042",
    "1e5",
]


def dangerous(fake: FakeHilos) -> None:
    for id, name in zip(IDS, NAMES, strict=False):
        flow = cast("dict[str, object]", fake.document(id)["flow"])
        fake.put(id, status="COMPLETED", flow=flow | {"name": name, "id": "5215512345678901234"})
    fake.put(
        ONE,
        created_on="2026-03-01T20:15:00.250000-06:00",
        last_run_on="yesterday",
        start_on=None,
        num_contacts=1_000,
        completed=875,
    )
    fake.put(TWO, created_on="1899-12-31T12:00:00Z", start_on="9999-12-31T23:59:59-12:00")
    fake.put(THREE, num_contacts=10**16)


async def test_a_csv_holds_text_that_no_spreadsheet_runs(
    fake: FakeHilos, hilos: HilosSession, tmp_path: Path
) -> None:
    dangerous(fake)
    out = tmp_path / "out.csv"
    fake.remove(FOUR)
    report = await export_executions(hilos, [*IDS, "=no()"], out, tz="America/Mexico_City")
    assert report.records == tmp_path / "out.ndjson"
    assert not out.read_bytes().startswith(b"\xef\xbb\xbf")
    rows = read_csv(out)
    assert list(rows) == [*map(str, IDS), "'=no()"]  # in the order of the ids
    assert tuple(rows[str(ONE)]) == EXECUTIONS.header
    for id, name in zip(IDS, NAMES, strict=False):
        if id != FOUR:
            assert rows[str(id)]["flow"] == f"'{name}".replace("\t=", "\t'=")
            assert rows[str(id)]["flow_id"] == "'5215512345678901234"  # Excel keeps 15 digits
    one = rows[str(ONE)]
    assert one["created_on"] == "2026-03-01T20:15:00.250000-06:00"
    assert (one["start_on"], one["last_run_on"]) == ("", "yesterday")
    assert (one["num_contacts"], one["completed"]) == ("1000", "875")
    assert float(one["completion_rate"]) == 0.875
    assert rows[str(TWO)]["start_on"] == "9999-12-31T23:59:59-12:00"
    assert rows[str(THREE)]["num_contacts"] == "10000000000000000"
    assert (rows[str(FOUR)]["error"], rows[str(FOUR)]["status"]) == ("NotFoundError", "")
    assert rows["'=no()"]["error"] == "InvalidIdError"


async def test_an_xlsx_has_real_dates_and_no_formula(
    fake: FakeHilos, hilos: HilosSession, tmp_path: Path
) -> None:
    dangerous(fake)
    out = tmp_path / "out.xlsx"
    fake.remove(FOUR)
    await export_executions(hilos, IDS, out, tz=ZoneInfo("Asia/Tokyo"))
    rows = read_xlsx(out)
    assert list(rows) == [str(id) for id in IDS]
    for id, name in zip(IDS, NAMES, strict=False):
        if id != FOUR:
            assert rows[str(id)]["flow"] == name
            assert rows[str(id)]["flow_id"] == "5215512345678901234"
    one = rows[str(ONE)]
    assert one["created_on (Asia/Tokyo)"] == datetime(2026, 3, 2, 11, 15, 0, 250_000)
    assert one["start_on (Asia/Tokyo)"] is None
    assert one["last_run_on (Asia/Tokyo)"] == "yesterday"
    assert (one["num_contacts"], one["completed"], one["completion_rate"]) == (1_000, 875, 0.875)
    two = rows[str(TWO)]
    assert two["created_on (Asia/Tokyo)"] == "1899-12-31T21:00:00+09:00"
    assert two["start_on (Asia/Tokyo)"].year == 9_999
    assert rows[str(THREE)]["num_contacts"] == "10000000000000000"
    assert rows[str(FOUR)]["error"] == "NotFoundError"
    assert beside(out) == {"out.ndjson"}


async def test_a_table_is_made_of_all_that_the_records_hold(
    fake: FakeHilos, hilos: HilosSession, tmp_path: Path
) -> None:
    await export_executions(hilos, [ONE, TWO], tmp_path / "out.ndjson")
    (tmp_path / "out.csv").write_text("an older one", encoding="utf-8")
    (tmp_path / "out.csv").chmod(0o640)
    report = await export_executions(hilos, [THREE, ONE], tmp_path / "out.csv")
    assert (report.asked, report.others) == (1, 1)
    assert list(read_csv(tmp_path / "out.csv")) == [str(THREE), str(ONE), str(TWO)]
    assert (tmp_path / "out.csv").stat().st_mode & 0o777 == 0o640
    assert fake.requests == 3


async def test_a_link_stays_one(hilos: HilosSession, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "out.csv").symlink_to(tmp_path / "there" / "real.csv")
    await export_executions(hilos, [ONE], tmp_path / "out.csv")
    assert (tmp_path / "out.csv").is_symlink()
    assert list(read_csv(tmp_path / "there" / "real.csv")) == [str(ONE)]


async def test_users_channels_and_durations_that_are_missing_are_empty_cells(
    fake: FakeHilos, hilos: HilosSession, tmp_path: Path
) -> None:
    flow = cast("dict[str, object]", fake.document(ONE)["flow"])
    person = {"id": 1, "email": None, "first_name": "Ana", "last_name": None}
    fake.put(ONE, flow=flow | {"channel": None}, created_by=None, avg_completion_time=None)
    fake.put(TWO, created_by=person, avg_completion_time="1 00:00:01.5")
    fake.put(THREE, created_by=person | {"first_name": None}, avg_completion_time="soon")
    await export_executions(hilos, IDS[:3], tmp_path / "out.csv")
    one, two, three = read_csv(tmp_path / "out.csv").values()
    assert (one["channel"], one["created_by"], one["avg_completion_seconds"]) == ("", "", "")
    assert (two["created_by"], two["avg_completion_seconds"]) == ("Ana", "86401.5")
    assert (three["created_by"], three["avg_completion_seconds"]) == ("", "soon")


def test_what_does_not_fit_a_sheet_is_said_before_anything_is_asked() -> None:
    with pytest.raises(ExportError, match=r"1,048,576 rows do not fit .*; write a .csv"):
        check_size(Path("out.xlsx"), 1_048_576)
    check_size(Path("out.csv"), 10**9)


# --- what cannot be written


def limited(kilobytes: int, *argv: str) -> list[str]:
    """A command that can write no file beyond a size: the system's error is that of a full disk."""
    hilos = [sys.executable, "-W", "error", "-m", "hilos_async", *argv]
    # Coverage would have to write a file as well.
    script = f'unset COVERAGE_PROCESS_CONFIG; ulimit -f {kilobytes}; exec "$@"'
    return ["bash", "-c", script, "bash", *hilos]


async def run(fake: FakeHilos, command: list[str], cwd: Path) -> tuple[int, str]:
    env = {**os.environ, "HILOS_API_KEY": KEY, "HILOS_BASE_URL": fake.base_url}
    with anyio.fail_after(PATIENCE):
        ended = await anyio.run_process(command, check=False, env=env, cwd=cwd)
    assert ended.stdout == b""
    return ended.returncode, ended.stderr.decode()


async def test_a_full_disk_keeps_whole_lines_and_says_how_far_it_got(
    fake: FakeHilos, tmp_path: Path
) -> None:
    ids = [str(uuid5(NAMESPACE_URL, f"full {number}")) for number in range(100)]
    (tmp_path / "ids.txt").write_text("\n".join(ids), encoding="utf-8")
    export = ["export", "--ids", "ids.txt", "-o", "out.ndjson"]
    code, told = await run(fake, limited(64, *export), tmp_path)
    assert code == 1
    kept = len(documents(tmp_path / "out.ndjson"))
    assert 0 < kept < 100
    words = re.sub(r"\s+", " ", told)
    assert f"out.ndjson cannot be written: File too large. {kept} of 100 ids are in" in words
    assert "Traceback" not in told
    requests = fake.requests
    code, told = await run(fake, limited(10**6, *export), tmp_path)
    assert code == 0, told
    assert f"{kept} of 100 ids are there already" in told
    assert documents(tmp_path / "out.ndjson").keys() == set(ids)
    assert fake.requests == requests + 100 - kept


async def test_of_a_line_that_does_not_fit_nothing_stays(
    fake: FakeHilos, hilos: HilosSession, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await export_executions(hilos, [ONE], out)
    whole = out.read_bytes()
    lookup = Lookup(TWO, await hilos.get_execution(TWO))

    class Full(io.FileIO):
        def write(self, data: "ReadableBuffer", /) -> int:
            if len(bytes(data)) <= 100:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(bytes(data)[:-100])

    with contextlib.closing(records.Records(out, records.Record)) as there:
        there._file.close()
        there._file = Full(out, "ab")
        with pytest.raises(OSError, match="No space left"):
            there.append(records.Record.of(lookup))
        assert len(there) == 1
    assert out.read_bytes() == whole


@pytest.mark.parametrize("name", ["out.csv", "out.xlsx"])
async def test_a_table_that_does_not_fit_leaves_the_old_one(
    name: str, fake: FakeHilos, tmp_path: Path
) -> None:
    ids = [str(uuid5(NAMESPACE_URL, f"full {number}")) for number in range(100)]
    (tmp_path / "ids.txt").write_text("\n".join(ids), encoding="utf-8")
    (tmp_path / name).write_text("the old one", encoding="utf-8")
    code, _ = await run(
        fake, limited(10**6, "export", "--ids", "ids.txt", "-o", "out.ndjson"), tmp_path
    )
    code, told = await run(fake, limited(4, "export", "--ids", "ids.txt", "-o", name), tmp_path)
    assert code == 1
    words = re.sub(r"\s+", " ", told)
    assert f"{name} cannot be written: File too large. 100 of 100 ids are in out.ndjson" in words
    assert "Exception ignored" not in told
    assert (tmp_path / name).read_text(encoding="utf-8") == "the old one"
    assert {path.name for path in tmp_path.iterdir()} == {"ids.txt", "out.ndjson", name}
    code, told = await run(fake, limited(10**6, "export", "--ids", "ids.txt", "-o", name), tmp_path)
    assert code == 0, told
    assert fake.requests == 100


async def test_lines_that_cannot_be_joined_are_all_still_there(
    fake: FakeHilos, hilos: HilosSession, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.put(ONE, status="RUNNING")
    await export_executions(hilos, [ONE], out)

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(records, "replacing", full)
        with pytest.raises(ExportError, match="No space left") as raised:
            await export_executions(hilos, [ONE], out, refresh=True)
    assert (raised.value.kept, raised.value.total) == (1, 1)
    assert len(out.read_bytes().splitlines()) == 2
    await export_executions(hilos, [ONE], out)
    assert len(documents(out)) == 1


@pytest.mark.parametrize("name", ["missing/out.ndjson", "a-file/out.ndjson"])
async def test_a_directory_that_is_none_is_said_before_anything_is_asked(
    name: str, fake: FakeHilos, hilos: HilosSession, tmp_path: Path
) -> None:
    (tmp_path / "a-file").write_text("", encoding="utf-8")
    with pytest.raises(ExportError, match="cannot be written: No") as raised:
        await export_executions(hilos, IDS, tmp_path / name)
    assert (raised.value.kept, raised.value.total) == (None, None)
    assert fake.requests == 0


@pytest.mark.parametrize("name", ["out.ndjson", "out.csv"])
async def test_what_is_no_file_is_said_before_anything_is_asked(
    name: str, fake: FakeHilos, hilos: HilosSession, tmp_path: Path
) -> None:
    for suffix in ("ndjson", "csv"):
        (tmp_path / f"out.{suffix}").mkdir()
    with pytest.raises(ExportError, match="is no regular file"):
        await export_executions(hilos, IDS, tmp_path / name)
    (tmp_path / "out.csv").rmdir()
    with pytest.raises(ExportError, match="is no regular file"):
        await export_executions(hilos, IDS, tmp_path / "out.csv")
    assert fake.requests == 0


async def test_a_file_that_may_not_be_written_is_not_replaced_either(
    hilos: HilosSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out.csv").write_text("kept", encoding="utf-8")
    # Whoever runs the tests may be root, who may write everything.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ExportError, match="cannot be written: Permission denied"):
        await export_executions(hilos, [ONE], tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == "kept"


# --- ended early


async def test_a_key_refused_on_the_way_keeps_all_that_came(
    fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    def revoke_at_5(told: ExportProgress) -> None:
        if told.done == 5:
            fake.revoke()

    with pytest.raises(AuthenticationError):
        await export_executions(hilos, IDS, out, max_concurrency=1, on_progress=revoke_at_5)
    assert documents(out).keys() == {str(id) for id in IDS[:5]}
    assert beside(out) == set()


async def test_a_session_that_is_closed_is_no_answer_about_an_id(
    fake: FakeHilos, out: Path
) -> None:
    async with fake.session(pace="off") as hilos:

        async def close() -> None:
            await hilos.aclose()

        def close_at_3(told: ExportProgress) -> None:
            if told.done == 3:
                closing.append(asyncio.create_task(close()))

        closing: list[asyncio.Task[None]] = []
        fake.latency = 0.01
        with pytest.raises(SessionClosedError):
            await export_executions(hilos, IDS, out, max_concurrency=1, on_progress=close_at_3)
    found = documents(out)
    assert 3 <= len(found) < 12
    assert all("execution" in document for document in found.values())


async def test_what_a_caller_raises_comes_out_as_it_is(
    fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    def fail(told: ExportProgress) -> None:
        if told.lookup is not None:
            raise OSError("the caller's own")

    with pytest.raises(OSError, match="the caller's own"):
        await export_executions(hilos, IDS, out, on_progress=fail)
    assert len(documents(out)) == 1


async def test_progress_tells_what_was_there_what_came_and_the_rate(
    fake: FakeHilos, hilos: HilosSession, out: Path
) -> None:
    fake.remove(TWO)
    await export_executions(hilos, [ONE], out)
    told: list[ExportProgress] = []
    await export_executions(hilos, [ONE, TWO, THREE], out, on_progress=told.append)
    assert [(p.there, p.done, p.total) for p in told] == [(1, 0, 2), (1, 1, 2), (1, 2, 2)]
    assert told[-1].failed == 1
    assert told[0].lookup is None
    assert {p.lookup.id for p in told if p.lookup} == {TWO, THREE}
    assert told[-1].rate > 0


async def test_ids_may_come_from_anywhere(hilos: HilosSession, out: Path) -> None:
    async def given() -> AsyncIterator[UUID | str]:
        for id in IDS:
            yield id

    assert (await export_executions(hilos, given(), out)).total == 12
    with pytest.raises(TypeError, match="an iterable of ids, not one str"):
        await export_executions(hilos, str(ONE), out)
    odd = "half a \ud800 pair"
    assert (await export_executions(hilos, [odd], out)).invalid == 1
    assert (await export_executions(hilos, [odd], out, retry_errors=True)).failed == 1


@pytest.mark.parametrize(
    ("name", "tz", "said"),
    [
        ("out.txt", "UTC", "'out.txt' names no format"),
        ("out", "UTC", "let it end in .ndjson, .csv or .xlsx"),
        ("out.csv", "Mexico", "tz='Mexico' is no time zone"),
        ("out.csv", "../etc/passwd", "is no time zone"),
        ("out.csv", "America", "is no time zone"),
    ],
)
async def test_what_cannot_work_is_said_before_anything_is_asked(
    name: str, tz: str, said: str, fake: FakeHilos, hilos: HilosSession, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(said)):
        await export_executions(hilos, IDS, name, tz=tz)
    assert list(tmp_path.iterdir()) == []
    assert fake.requests == 0


async def test_without_xlsxwriter_the_extra_is_named(
    fake: FakeHilos, hilos: HilosSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with pytest.raises(ImportError, match=re.escape(install_command("excel"))):
        await export_executions(hilos, IDS, tmp_path / "out.xlsx")
    assert fake.requests == 0
    await export_executions(hilos, IDS, tmp_path / "out.csv")


def test_an_import_of_the_export_imports_no_xlsxwriter() -> None:
    code = "import sys, hilos_async.export; assert 'xlsxwriter' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_its_error_survives_a_pickle(out: Path) -> None:
    error = ExportError("no", path=out, kept=1, total=2)
    again: object = pickle.loads(pickle.dumps(error))
    assert isinstance(error, HilosError)
    assert type(again) is ExportError
    assert (str(again), again.path, again.kept, again.total) == ("no", out, 1, 2)


@pytest.mark.parametrize("failed", [0, 1])
def test_a_report_is_true_if_nothing_failed(failed: int) -> None:
    here = Path()
    report = ExportReport(
        path=here, records=here, total=1, asked=1, failed=failed, invalid=0, others=0
    )
    assert bool(report) is not bool(failed)
