"""`hilos list`, `contacts`, `run`, and `export` of contacts, as their users meet them."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING
from uuid import UUID

import anyio
import pytest

from hilos_async.models import ExecutionBrief, ExecutionContact
from hilos_async.testing import FakeHilos, FakeLimit, Fault
from tests.test_cli import HILOS, PATIENCE, Ended, in_process, process, terminal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

# Files of a few lines may block these tests' loop:
# ruff: noqa: ASYNC240

pytestmark = pytest.mark.anyio

ONE = UUID("a1b2c3d4-0000-4000-8000-1234567890ab")
PHONES = ("+5215512345678", "+5215587654321")


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeHilos]:
    async with FakeHilos(executions=95) as server:
        monkeypatch.setenv("HILOS_API_KEY", server.token)
        monkeypatch.setenv("HILOS_BASE_URL", server.base_url)
        server.put(ONE, num_contacts=50, completed=20, failed=5, expired=0, running=0, canceled=0)
        yield server


@pytest.fixture
def people(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    rows = f"phone,first_name,meta.plan\n{PHONES[0]},María,oro\n{PHONES[1]},,\n"
    path.write_text(rows, encoding="utf-8-sig")
    return path


async def typed(answer: bytes, *argv: str) -> Ended:
    """The command with something on standard input, which is no terminal."""
    with anyio.fail_after(PATIENCE):
        ended = await anyio.run_process([*HILOS, *argv], input=answer, check=False)
    return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


# --- lists


async def test_executions_are_listed_newest_first(
    fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = await in_process(capsys, "list")
    header, *rows = ended.out.splitlines()
    assert (ended.code, header.split()) == (0, ["id", "status", "contacts", "completed", "created"])
    assert len(rows) == 95
    dates = [row.split()[-2:] for row in rows]
    assert dates == sorted(dates, reverse=True)
    assert ended.err == ""


@pytest.mark.parametrize("command", ["list", "contacts"])
async def test_a_list_has_two_forms_for_programs_and_a_bound(
    command: str, fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [command] if command == "list" else [command, str(ONE)]
    ids = (await in_process(capsys, *argv, "--format", "ids")).out.split()
    assert len(ids) == len(set(map(UUID, ids))) == (95 if command == "list" else 50)
    some = await in_process(capsys, *argv, "--format", "ndjson", "--limit", "3")
    kind = ExecutionBrief if command == "list" else ExecutionContact
    assert [str(kind.from_json(line).id) for line in some.out.splitlines()] == ids[:3]


async def test_filters_reach_the_server(
    fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = fake.flows[0]
    await in_process(capsys, "list", "--flow", str(flow), "--search", "x y")
    await in_process(capsys, "contacts", str(ONE), "--search", "Ana")
    assert fake.violations == []
    fake.start(flow, [{"phone": PHONES[0]}])
    newest = await in_process(capsys, "list", "--flow", str(flow), "--limit", "1")
    assert "PROCESSING" in newest.out


async def test_contacts_show_how_each_fared(
    fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = await in_process(capsys, "contacts", str(ONE))
    assert ended.code == 0
    assert ended.out.count("COMPLETED") == 20
    assert ended.out.count("FAILED") == 5
    assert "+52155" in ended.out


async def test_an_empty_list_says_so(fake: FakeHilos, capsys: pytest.CaptureFixture[str]) -> None:
    ended = await in_process(capsys, "list", "--flow", str(ONE))
    assert (ended.code, ended.out, ended.err) == (0, "", "hilos: the list is empty\n")


async def test_a_list_that_ends_too_early_shows_what_came_and_says_so(
    fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.faults = [Fault.status(403, ids=[ONE])]
    ended = await in_process(capsys, "contacts", str(ONE))
    assert (ended.code, ended.out) == (1, "")
    assert "got 403" in ended.err
    fake.faults = []
    fake.revoke()
    assert (await in_process(capsys, "list")).code == 3


async def test_time_that_is_up_and_ctrl_c_show_what_came(fake: FakeHilos) -> None:
    fake.latency = 60
    with anyio.fail_after(PATIENCE):
        listing = await anyio.open_process([*HILOS, "list"])
        while fake.in_flight == 0:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        listing.send_signal(signal.SIGINT)
        await listing.wait()
        assert listing.returncode == 130
        await listing.aclose()
    # The first page comes, the next one would in half a minute.
    fake.limit, fake.latency = FakeLimit(1, per=30), 0
    ended = await process("list", "--timeout", "3")
    assert ended.code == 1
    assert ended.out.count("\n") == 41
    assert "the time is up: this is not the whole list" in ended.err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["list", "--flow", "x"], "'x' is no flow id"),
        (["list", "--limit", "0"], "no whole number"),
        (["contacts", "x"], "'x' is no execution id"),
        (["contacts"], "EXECUTION_ID"),
        (["export", "-o", "out.csv"], "one of the arguments"),
        (["export", "--flow", "x", "-o", "out.csv"], "'x' is no flow id"),
        (["export", "--contacts-of", "x", "-o", "out.csv"], "'x' is no execution id"),
        (
            ["export", "--flow", str(ONE), "--retry-errors", "-o", "out.csv"],
            "--retry-errors is for --ids",
        ),
        (["run", "x", "--contacts", "c.csv"], "'x' is no flow id"),
        (["run", str(ONE)], "--contacts"),
        (["run", str(ONE), "--contacts", "no-such.csv"], "cannot be read: no-such.csv"),
    ],
)
async def test_wrong_usage_is_2_and_nothing_is_sent(
    argv: list[str], said: str, fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = await in_process(capsys, *argv)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert fake.requests == 0


# --- runs


async def test_a_run_shows_what_it_would_start_and_asks(fake: FakeHilos, people: Path) -> None:
    flow = str(fake.flows[0])
    for answer, code, runs in (("n", 1, 0), ("", 1, 0), ("y", 0, 1)):
        ended = await terminal("run", flow, "--contacts", str(people), typed=f"{answer}\n")
        assert ended.code == code, ended.out
        assert f"run flow {flow} at {fake.base_url}; contacts: 2" in ended.out.replace(
            "\n       ", " "
        )
        assert fake.runs_created == runs
        assert not [phone for phone in PHONES if phone in ended.out]
    assert fake.violations == []


async def test_a_run_without_a_person_needs_yes(fake: FakeHilos, people: Path) -> None:
    flow = str(fake.flows[0])
    ended = await typed(b"y\n", "run", flow, "--contacts", str(people))
    assert (ended.code, fake.runs_created) == (2, 0)
    assert "add --yes; nothing was sent" in ended.err
    ended = await typed(people.read_bytes(), "run", flow, "--contacts", "-", "--yes", "--priority")
    assert (ended.code, fake.runs_created) == (0, 1)
    made = UUID(ended.out.strip())
    assert fake.document(made)["num_contacts"] == 2
    assert f"hilos watch {made}" in ended.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("phone\n5215512345678\n", "line 2: NewContact(phone=...): wanted E.164"),
        ("phone,first_name\n,Ana\n", "line 2: it has no phone"),
        (f"phone\n{PHONES[0]}\n{PHONES[0]}\n", "contacts 1 and 2 have the same phone"),
        ("phone\n", "at least one contact"),
        ("", "there is no column phone"),
        ("telefono\n1\n", "no column 'telefono' is known"),
        (f"phone,nick\n{PHONES[0]},x\n", "no column 'nick' is known"),
        (f"phone,first_name\n{PHONES[0]}\n", "line 2: it has not as many cells"),
        (f"phone\n{PHONES[0]},x\n", "line 2: it has not as many cells"),
        (f'phone,email\n{PHONES[0]},"x\n', "cannot be read"),
        (f"phone,email\n{PHONES[0]},nobody\n", "line 2: NewContact(email=...)"),
    ],
)
async def test_a_file_that_makes_no_run_is_told_by_line_and_column(
    content: str, said: str, fake: FakeHilos, people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people.write_text(content, encoding="utf-8")
    ended = await in_process(capsys, "run", str(ONE), "--contacts", str(people), "--yes")
    assert ended.code == 2
    assert said in ended.err
    assert "5512345678" not in ended.err.replace("such as '+5215512345678'", "")
    assert fake.requests == 0


async def test_only_some_of_many_bad_lines_are_told(
    fake: FakeHilos, people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people.write_text("phone\n" + "x\n" * 30, encoding="utf-8")
    ended = await in_process(capsys, "run", str(ONE), "--contacts", str(people), "--yes")
    assert ended.err.count("NewContact(phone") == 10
    assert "and 20 more lines" in ended.err


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (Fault.status(500), 5, "may have started"),
        (Fault.reset("body"), 5, "hilos list --flow"),
        (Fault.status(400), 1, "nothing was started"),
        (Fault.status(401), 3, "nothing was started"),
        (Fault.status(429), 1, "nothing was started"),
    ],
    ids=["500", "reset", "400", "401", "429"],
)
async def test_the_exit_code_says_whether_a_campaign_may_have_started(
    fault: Fault, code: int, said: str, fake: FakeHilos, people: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    fake.faults = [fault]
    flow = str(fake.flows[0])
    ended = await in_process(
        capsys, "run", flow, "--contacts", str(people), "--yes", "--timeout", "30"
    )
    assert (ended.code, ended.out) == (code, "")
    assert said in ended.err
    assert fake.runs_created == (code == 5)


# --- exports of contacts


async def test_contacts_are_exported_and_what_is_there_is_told(
    fake: FakeHilos, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out.csv")
    ended = await in_process(capsys, "export", "--contacts-of", str(ONE), "-o", out, "--excel")
    assert (ended.code, ended.out) == (0, "")
    assert "out.csv: 50 contacts of 1 executions; 50 new in this run" in ended.err
    again = await in_process(capsys, "export", "--contacts-of", str(ONE), "-o", out)
    assert "50 contacts are there already" in again.err
    assert fake.requests == 2


async def test_ids_of_a_list_can_be_piped_into_an_export(
    fake: FakeHilos, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = fake.flows[1]
    for size in (3, 4):
        fake.start(flow, [{"phone": f"+521551234{size}{place:03}"} for place in range(size)])
    ids = await in_process(capsys, "list", "--flow", str(flow), "--limit", "2", "--format", "ids")
    out = tmp_path / "out.ndjson"
    ended = await typed(ids.out.encode(), "export", "--contacts-of", "-", "-o", str(out))
    assert ended.code == 0
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert sum("contact" in line for line in lines) == 7


async def test_an_export_that_lacks_a_list_says_so_and_how_to_go_on(
    fake: FakeHilos, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out.ndjson")
    fake.faults = [Fault.status(403, ids=[ONE])]
    argv = ("export", "--contacts-of", str(ONE), "-o", out)
    ended = await in_process(capsys, *argv)
    assert ended.code == 1
    assert "the same command asks for them again" in ended.err
    fake.faults = []
    fake.revoke()
    refused = await in_process(capsys, *argv)
    assert refused.code == 3
    assert "goes on from there" in refused.err


async def test_an_export_of_contacts_stopped_by_ctrl_c_says_how_to_go_on(
    fake: FakeHilos, tmp_path: Path
) -> None:
    fake.latency = 0.2
    out = str(tmp_path / "out.ndjson")
    export = [*HILOS, "export", "--contacts-of", str(ONE), "-o", out]
    with anyio.fail_after(PATIENCE):
        command = await anyio.open_process(export, env=dict(os.environ))
        while fake.requests < 2:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        command.send_signal(signal.SIGINT)
        assert command.stderr is not None
        told = b"".join([part async for part in command.stderr]).decode()
        assert await command.wait() == 130
        await command.aclose()
    assert "stopped: what has come is in out.ndjson; the same command goes on from there" in told
