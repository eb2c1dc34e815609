"""`hilos gather` and `hilos export` as their users meet them: files of ids as they are, pipes,
terminals, Ctrl-C, and what the exit code says."""

import asyncio
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from argparse import ArgumentTypeError
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import anyio
import anyio.to_thread
import pytest

from hilos_async import FlowExecution, RateLimit
from hilos_async._extras import install_command
from hilos_async.cli import _connection, main
from hilos_async.testing import FakeHilos, Fault
from tests.screen import screen
from tests.test_cli import HILOS, PATIENCE, Ended, in_process, process, terminal, without_progress

# Files of a few lines may block these tests' loop:
# ruff: noqa: ASYNC230, ASYNC240

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
        yield server


def written(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]


def flat(text: str) -> str:
    return re.sub(r"\s+", " ", text)


# --- ids


# As Notepad saves what was pasted from a sheet and edited by hand.
WILD = f"\ufeffid\r\n{ONE}\r\n\r\n  {TWO.upper()} \r\n{ONE}\r\nnonsense\r\n{{{THREE}}}"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
async def test_what_is_an_id_is_used_and_what_is_not_is_told_and_stays_as_an_error(
    encoding: str, fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    text = WILD if encoding == "utf-8" else WILD.removeprefix("\ufeff")
    Path("ids.txt").write_bytes(text.encode(encoding))
    ended = await in_process(capsys, "gather", "--ids", "ids.txt", "--format", "json")
    assert ended.code == 1
    found = {document["id"]: document for document in json.loads(ended.out)}
    assert list(found) == ["id", ONE, TWO, "nonsense", THREE]
    assert found["nonsense"]["error"]["type"] == "InvalidIdError"
    assert FlowExecution.from_json(json.dumps(found[TWO]["execution"])).id == UUID(TWO)
    assert "ids.txt, line 1: 'id' is no execution id" in ended.err
    assert "ids.txt, line 6: 'nonsense' is no execution id" in ended.err
    assert "2 of 5 lookups failed" in ended.err
    ended = await in_process(capsys, "export", "--ids", "ids.txt", "-o", "out.ndjson")
    assert ended.code == 1
    assert {document["id"] for document in written("out.ndjson")} == set(found)
    assert "ids.txt, line 6: 'nonsense' is no execution id" in ended.err
    assert fake.requests == 6


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "ids.txt holds no ids"),
        (b"\xef\xbb\xbf\r\n \r\n", "ids.txt holds no ids"),
        (None, "the ids cannot be read: ids.txt: No such file"),
        ("a directory", "the ids cannot be read: ids.txt: Is a directory"),
    ],
)
@pytest.mark.parametrize("command", [["gather"], ["watch"], ["export", "-o", "out.ndjson"]])
async def test_a_file_without_ids_is_2_and_nothing_is_sent_or_written(
    command: list[str],
    content: bytes | str | None,
    said: str,
    fake: FakeHilos,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if isinstance(content, bytes):
        Path("ids.txt").write_bytes(content)
    elif content is not None:
        Path("ids.txt").mkdir()
    ended = await in_process(capsys, *command, "--ids", "ids.txt")
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert fake.requests == 0
    assert not Path("out.ndjson").exists()


async def test_a_file_of_anything_else_is_told_in_a_few_lines(
    fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = b"\x00\x01\xfe\xff\x9b \x1b[2J"
    Path("ids.txt").write_bytes(b"\n".join(noise + b"%d" % n for n in range(25)) + b"x" * 10_000)
    ended = await in_process(capsys, "gather", "--ids", "ids.txt")
    assert (ended.code, ended.out) == (4, "")
    assert ended.err.count("is no execution id") == 10
    assert "ids.txt: 15 more lines are no ids" in ended.err
    assert "\x1b" not in ended.err
    assert fake.requests == 0


async def test_ids_come_from_standard_input_and_from_arguments(fake: FakeHilos) -> None:
    command = [*HILOS, "gather", "--format", "ndjson", THREE, ONE, "--ids", "-"]
    with anyio.fail_after(PATIENCE):
        ended = await anyio.run_process(command, input=f"{TWO}\n{ONE}\n\nx\n".encode(), check=False)
    assert ended.returncode == 1
    found = [json.loads(line)["id"] for line in ended.stdout.splitlines()]
    assert sorted(found) == sorted([THREE, ONE, TWO, "x"])
    assert b"standard input, line 4: 'x' is no execution id" in ended.stderr


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["gather"], "no ids: give some, or --ids FILE"),
        (["watch"], "no ids: give some, or --ids FILE"),
        (["gather", ONE, "tomorrow"], "'tomorrow' is no execution id"),
        (["gather", ONE, "--format", "xml"], "invalid choice: 'xml'"),
        (["gather", ONE, "--pace", "0"], "'0' is no pace"),
        (["gather", ONE, "--pace", "fast"], "'fast' is no pace: 5, 5/s, 600/min, 1000/h"),
        (["gather", ONE, "--pace", "5/year"], "'5/year' is no pace"),
        (["gather", ONE, "--max-concurrency", "0"], "'0' is no whole number of at least 1"),
        (["gather", ONE, "--max-concurrency", "ten"], "'ten' is no whole number"),
        (["export", "-o", "out.ndjson"], "--ids"),
        (["export", "--ids", "ids.txt"], "--output"),
        (["export", "--ids", "ids.txt", "-o", "out.pdf"], "'out.pdf' names no format"),
        (
            ["export", "--ids", "ids.txt", "-o", "a.csv", "--tz", "Mars"],
            "tz='Mars' is no time zone",
        ),
        (["export", "--ids", "out.csv", "-o", "out.csv"], "out.csv holds the ids"),
        (["export", "--ids", "a/../out.ndjson", "-o", "out.csv"], "out.ndjson holds the ids"),
    ],
)
async def test_wrong_usage_is_2_and_nothing_is_sent(
    argv: list[str], said: str, fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("ids.txt").write_text(ONE, encoding="utf-8")
    ended = await in_process(capsys, *argv)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert fake.requests == 0
    assert [path.name for path in Path().iterdir()] == ["ids.txt"]


@pytest.mark.parametrize(
    ("text", "pace"),
    [
        ("5", RateLimit(5)),
        ("5/s", RateLimit(5)),
        ("0.5", RateLimit(0.5)),
        ("600/min", RateLimit(600, per=60)),
        ("1000/h", RateLimit(1_000, per=3_600)),
        ("50000/day", RateLimit(50_000, per=86_400)),
        ("learn", "learn"),
        ("off", "off"),
    ],
)
async def test_a_pace_is_said_in_the_words_of_people(text: str, pace: object) -> None:
    assert _connection._pace(text) == pace
    for wrong in (f"{text}/", f"-{text}", f"{text} s"):
        with pytest.raises(ArgumentTypeError):
            _connection._pace(wrong)


async def test_a_pace_and_a_bound_are_kept(
    fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.latency = 0.01
    ended = await in_process(capsys, "gather", *map(str, IDS), "--max-concurrency", "2")
    assert (ended.code, fake.max_in_flight) == (0, 2)
    ended = await in_process(capsys, "gather", ONE, TWO, "--pace", "1/h", "--timeout", "0.5")
    assert ended.code == 1
    assert fake.requests == 6


# --- gather


async def test_each_form_holds_every_id(
    fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.remove(TWO)
    fake.put(ONE, created_on="2026-03-01T20:15:00-06:00")
    table = await in_process(capsys, "gather", THREE, TWO, ONE)
    assert table.code == 1
    assert [line[:36].rstrip() for line in table.out.splitlines()] == ["id", THREE, ONE]
    assert f"flow-execution/{TWO} got 404" in table.err
    assert "1 of 3 lookups failed" in table.err
    array = await in_process(capsys, "gather", THREE, TWO, ONE, "--format", "json")
    found = json.loads(array.out)
    assert [document["id"] for document in found] == [THREE, TWO, ONE]
    assert found[1]["error"]["status"] == 404
    assert without_progress(array.err) == "hilos: 1 of 3 lookups failed\n"
    one_a_line = await in_process(capsys, "gather", THREE, TWO, ONE, "--format", "ndjson")
    by_id = {document["id"]: document for document in map(json.loads, one_a_line.out.splitlines())}
    assert by_id == {document["id"]: document for document in found}
    comma = await in_process(capsys, "gather", THREE, TWO, ONE, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(comma.out)))
    assert [row["id"] for row in rows] == [THREE, TWO, ONE]
    assert rows[2]["created_on"] == "2026-03-02T02:15:00+00:00"
    assert rows[1]["error"] == "NotFoundError"


async def test_many_failures_are_told_in_a_few_lines(
    fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [str(uuid5(NAMESPACE_URL, f"missing {number}")) for number in range(25)]
    for id in ids:
        fake.remove(id)
    ended = await in_process(capsys, "gather", *ids)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.count("got 404") == 10
    assert "and 15 more; the other formats tell them all" in ended.err


async def test_a_refused_key_is_3_and_every_id_is_told(
    fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.faults.append(Fault.status(401, ids=[THREE]))
    for form in ("ndjson", "json"):
        argv = ["gather", *map(str, IDS), "--format", form, "--max-concurrency", "1"]
        ended = await in_process(capsys, *argv)
        assert ended.code == 3
        found = json.loads(ended.out) if form == "json" else map(json.loads, ended.out.splitlines())
        outcomes = [(document["id"], "execution" in document) for document in found]
        assert outcomes == [(ONE, True), (TWO, True), *((id, False) for id in (THREE, FOUR, FIVE))]


async def test_nobody_there_is_4(fake: FakeHilos, capsys: pytest.CaptureFixture[str]) -> None:
    fake.faults.append(Fault.body(b"<h1>It works!</h1>", content_type="text/html"))
    assert (await in_process(capsys, "gather", ONE, TWO)).code == 4
    Path("ids.txt").write_text(ONE, encoding="utf-8")
    argv = ["export", "--ids", "ids.txt", "-o", "out.ndjson"]
    assert (await in_process(capsys, *argv)).code == 4
    assert (await in_process(capsys, *argv)).code == 1  # nothing was asked: an old failure


async def interrupted(fake: FakeHilos, *argv: str) -> Ended:
    """The command, with Ctrl-C once all but what hangs has been answered."""
    fake.faults.append(Fault.delay(PATIENCE, ids=[TWO]))
    command = await asyncio.create_subprocess_exec(
        *HILOS, *argv, stdout=-1, stderr=-1, start_new_session=True
    )
    with anyio.fail_after(PATIENCE):
        while fake.requests < 5 or fake.in_flight > 1:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        assert command.stderr is not None
        before = await command.stderr.readuntil(b"4 of 5")  # it has heard of all that came
        os.killpg(command.pid, signal.SIGINT)
        out, told = await command.communicate()
    assert command.returncode is not None
    return Ended(command.returncode, out.decode(), (before + told).decode())


@pytest.mark.parametrize("form", ["table", "json", "ndjson", "csv"])
async def test_ctrl_c_prints_what_had_come(form: str, fake: FakeHilos) -> None:
    ended = await interrupted(fake, "gather", *map(str, IDS), "--format", form)
    assert ended.code == 130
    for id in (ONE, THREE, FOUR, FIVE):
        assert id in ended.out
    assert TWO not in ended.out
    assert "stopped: 4 of 5 were looked up" in ended.err


async def test_whoever_reads_ndjson_may_leave(fake: FakeHilos) -> None:
    more = [str(uuid5(NAMESPACE_URL, f"pipe {number}")) for number in range(400)]  # than it holds
    command = " ".join([*HILOS, "gather", ONE, *more, "--format", "ndjson"])
    script = f"set -o pipefail; {command} --max-concurrency 1 | head -1"
    ended = await anyio.run_process(["bash", "-c", script], check=False)
    assert ended.returncode == 141
    assert without_progress(ended.stderr.decode()) == ""
    assert json.loads(ended.stdout)["id"] == ONE


# --- export


async def test_an_export_goes_on_and_says_how_it_went(
    fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.remove(TWO)
    Path("ids.txt").write_text(f"{ONE}\n{TWO}\n", encoding="utf-8")
    export = ["export", "--ids", "ids.txt", "-o", "out.ndjson"]
    ended = await in_process(capsys, *export)
    assert (ended.code, ended.out) == (1, "")
    assert "out.ndjson: 2 ids, 1 fetched, 1 failed (now 1 NotFoundError); 2 asked" in ended.err
    assert "--retry-errors asks the failed ones again" in ended.err
    Path("ids.txt").write_text(f"{TWO}\n{THREE}\n{FOUR}\n", encoding="utf-8")
    fake.put(TWO)
    ended = await in_process(capsys, *export, "--retry-errors")
    assert ended.code == 0
    assert "out.ndjson: 3 ids, 3 fetched; 3 asked in this run" in ended.err
    assert "ids that only out.ndjson has stay in it: 1" in ended.err
    ended = await in_process(capsys, *export[:-1], "out.csv", "--tz", "Asia/Tokyo", "--refresh")
    assert "3 of 3 ids are there already" in ended.err or "asked in this run" in ended.err
    with Path("out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [TWO, THREE, FOUR, ONE]
    assert all(row["created_on"].endswith("+09:00") for row in rows)


async def test_a_key_refused_on_the_way_is_3_and_keeps_what_came(
    fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.faults.append(Fault.status(401, ids=[THREE], times=1))
    Path("ids.txt").write_text("\n".join(map(str, IDS)), encoding="utf-8")
    export = ["export", "--ids", "ids.txt", "-o", "out.csv", "--max-concurrency", "1"]
    ended = await in_process(capsys, *export)
    assert ended.code == 3
    assert "got 401" in ended.err
    assert "2 of 5 ids are in out.ndjson; the same command goes on from there" in ended.err
    assert not Path("out.csv").exists()
    assert (await in_process(capsys, *export)).code == 0
    assert fake.requests == 6


async def test_ctrl_c_in_an_export_says_how_to_go_on(fake: FakeHilos) -> None:
    Path("ids.txt").write_text("\n".join(map(str, IDS)), encoding="utf-8")
    ended = await interrupted(fake, "export", "--ids", "ids.txt", "-o", "out.xlsx")
    assert (ended.code, ended.out) == (130, "")
    assert "stopped: 4 of 5 ids are in out.ndjson; the same command goes on" in flat(ended.err)
    assert len(written("out.ndjson")) == 4
    assert sorted(path.name for path in Path().iterdir()) == ["ids.txt", "out.ndjson"]


async def test_when_the_time_is_up_an_export_says_how_to_go_on(
    fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.faults.append(Fault.delay(PATIENCE, ids=[TWO]))
    Path("ids.txt").write_text("\n".join(map(str, IDS)), encoding="utf-8")
    export = ["export", "--ids", "ids.txt", "-o", "out.ndjson"]
    ended = await in_process(capsys, *export, "--timeout", "5")
    assert ended.code == 1
    assert "the time is up: 4 of 5 ids are in out.ndjson; the same command" in flat(ended.err)
    assert len(written("out.ndjson")) == 4  # none of them a failure for want of time


async def test_a_rival_is_named(fake: FakeHilos, capsys: pytest.CaptureFixture[str]) -> None:
    fake.faults.append(Fault.delay(PATIENCE))
    Path("ids.txt").write_text(ONE, encoding="utf-8")
    export = ["export", "--ids", "ids.txt", "-o", "out.ndjson"]
    with subprocess.Popen([*HILOS, *export]) as rival:  # noqa: ASYNC220
        with anyio.fail_after(PATIENCE):
            while not fake.requests:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        ended = await in_process(capsys, *export)
        rival.kill()
    assert ended.code == 1
    assert f"out.ndjson: process {rival.pid} on " in ended.err


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [("missing/out.csv", 1, "cannot be written: No such file"), ("ids.txt/o.csv", 1, "Not a dir")],
)
async def test_an_output_that_cannot_be_written_is_1(
    name: str, code: int, said: str, fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("ids.txt").write_text(ONE, encoding="utf-8")
    ended = await in_process(capsys, "export", "--ids", "ids.txt", "-o", name)
    assert ended.code == code
    assert said in ended.err
    Path("out.csv").mkdir()
    ended = await in_process(capsys, "export", "--ids", "ids.txt", "-o", "out.csv")
    assert (ended.code, fake.requests) == (1, 0)
    assert "is no regular file" in ended.err


async def test_without_the_extra_an_xlsx_is_2(
    fake: FakeHilos, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("ids.txt").write_text(ONE, encoding="utf-8")
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    ended = await in_process(capsys, "export", "--ids", "ids.txt", "-o", "out.xlsx")
    assert ended.code == 2
    assert f"install the extra, {install_command('excel')}" in ended.err
    assert fake.requests == 0


# --- screens


@pytest.mark.parametrize("with_rich", [True, False])
async def test_an_export_on_a_terminal_shows_rate_time_left_and_counts(
    with_rich: bool, fake: FakeHilos, tmp_path: Path
) -> None:
    ids = [str(uuid5(NAMESPACE_URL, f"screen {number}")) for number in range(200)]
    Path("ids.txt").write_text("\n".join(ids), encoding="utf-8")
    env: dict[str, str] = {}
    if not with_rich:
        (tmp_path / "without" / "rich").mkdir(parents=True)
        (tmp_path / "without" / "rich" / "__init__.py").write_text("raise ImportError\n")
        found = (str(tmp_path / "without"), os.environ.get("PYTHONPATH"))
        env = {"PYTHONPATH": os.pathsep.join(filter(None, found))}
    export = ["export", "--ids", "ids.txt", "-o", "out.ndjson", "--pace", "90/s"]
    seen = await terminal(*export, env=env, interrupt_at="━" if with_rich else "[#")
    assert seen.code == 130
    plain = re.sub(r"\x1b\[\d*m", "", seen.out)
    bar = r"━+─+" if with_rich else r"\[#+-+\]"
    assert re.search(bar + r" \d+ of 200, \d+/s, \d+ s left", plain)
    assert re.search(r"stopped: \d+ of 200 ids are in out\.ndjson; the same", flat(seen.out))
    seen = await terminal(*export, env=env)
    assert seen.code == 0
    first, last, rest = screen(seen.out)
    assert re.fullmatch(r"hilos: \d+ of 200 ids are there already", first)
    assert re.fullmatch(r"hilos: out.ndjson: 200 ids, 200 fetched; \d+ asked in this run", last)
    assert rest == ""
    assert max(map(len, screen(seen.out))) <= 80


async def test_an_export_in_a_pipe_prints_plain_lines_now_and_then(fake: FakeHilos) -> None:
    fake.faults.append(Fault.delay(2.0, ids=[TWO]))
    Path("ids.txt").write_text("\n".join(map(str, IDS)), encoding="utf-8")
    ended = await process("export", "--ids", "ids.txt", "-o", "out.ndjson")
    assert (ended.code, ended.out) == (0, "")
    *progress, last = ended.err.splitlines()
    assert all(re.fullmatch(r"hilos: [0-4] of 5, .*", line) for line in progress)
    assert any(re.fullmatch(r"hilos: 4 of 5, .* left", line) for line in progress)
    assert last == "hilos: out.ndjson: 5 ids, 5 fetched; 5 asked in this run"


async def test_ids_typed_on_a_terminal_are_asked_for_with_a_word(fake: FakeHilos) -> None:
    seen = await terminal("gather", "--ids", "-", "--format", "ndjson", interrupt_at="Ctrl-D")
    assert seen.code == 130
    assert "reading ids from the terminal, one a line; Ctrl-D ends them" in seen.out


async def test_the_extras_are_imported_when_they_are_needed() -> None:
    code = (
        "import sys, hilos_async.cli; "
        "print(*{'rich', 'xlsxwriter', 'hilos_async.testing'} & sys.modules.keys())"
    )
    ended = await anyio.run_process([sys.executable, "-c", code])
    assert ended.stdout.split() == []


async def test_the_help_of_each_command_fits_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in ("gather", "watch", "export"):
        assert await anyio.to_thread.run_sync(main, [command, "--help"]) == 0
        shown = capsys.readouterr().out
        assert "--ids FILE" in shown
        assert max(map(len, shown.splitlines())) <= 80
