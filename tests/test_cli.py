"""The `hilos` command as its users meet it: processes with pipes, terminals and Ctrl-C.

Where a process of its own adds nothing, `main` runs in a thread beside the server's loop.
"""

import asyncio
import contextlib
import errno
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from argparse import Namespace
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from uuid import UUID

import anyio
import anyio.to_thread
import pytest

from hilos_async import (
    AuthenticationError,
    DeadlineExceededError,
    FlowExecution,
    HilosError,
    HilosSession,
    RateLimitError,
    ServerError,
)
from hilos_async.cli import _check, _connection, _demo, _meter, _show, main
from hilos_async.testing import FakeHilos, Fault

pytestmark = pytest.mark.anyio

KEY = "a-key-that-nobody-may-see"
IDS = [UUID(f"3f2b6c1e-0000-4000-8000-{number:012}") for number in range(1, 6)]
ONE, TWO, THREE, *_ = map(str, IDS)
HILOS = [sys.executable, "-W", "error", "-m", "hilos_async"]
PATIENCE = 60.0  # for what takes a moment on a machine that is not overloaded


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str = ""


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeHilos]:
    async with FakeHilos(KEY) as server:
        monkeypatch.setenv("HILOS_API_KEY", KEY)
        monkeypatch.setenv("HILOS_BASE_URL", server.base_url)
        yield server


@pytest.fixture
def no_rich(tmp_path: Path) -> dict[str, str]:
    """The environment of a process in which rich is not installed."""
    (tmp_path / "rich").mkdir()
    (tmp_path / "rich" / "__init__.py").write_text("raise ImportError('no rich here')\n")
    found = (str(tmp_path), os.environ.get("PYTHONPATH"))
    return {"PYTHONPATH": os.pathsep.join(filter(None, found))}


async def in_process(capsys: pytest.CaptureFixture[str], *argv: str) -> Ended:
    code = await anyio.to_thread.run_sync(main, argv)
    written = capsys.readouterr()
    return Ended(code, written.out, written.err)


async def process(*argv: str, env: Mapping[str, str] | None = None) -> Ended:
    with anyio.fail_after(PATIENCE):
        ended = await anyio.run_process(
            [*HILOS, *argv], check=False, env={**os.environ, **(env or {})}
        )
    return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


async def terminal(
    *argv: str,
    columns: int = 80,
    env: Mapping[str, str] | None = None,
    interrupt_at: str = "",
    typed: str = "",
    colour: bool = False,
) -> Ended:
    """Run the command in a terminal; `out` is all that was written to it.

    Ctrl-C is pressed when `interrupt_at` stands there; `typed` has been typed before.
    """
    environment = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": "1", **(env or {})}
    if colour:
        del environment["NO_COLOR"]  # to rich before 14, an empty one is one too
    with anyio.fail_after(PATIENCE):
        return await anyio.to_thread.run_sync(
            _in_terminal, argv, columns, environment, interrupt_at.encode(), typed.encode()
        )


def _in_terminal(
    argv: Sequence[str], columns: int, env: Mapping[str, str], interrupt_at: bytes, typed: bytes
) -> Ended:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, columns))
    command = subprocess.Popen(
        [*HILOS, *argv], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=env
    )
    os.close(theirs)
    os.write(ours, typed)
    screen = b""
    with contextlib.suppress(OSError):  # EIO: how Linux says that nobody has it open any more
        while part := os.read(ours, 65_536):
            screen += part
            if interrupt_at and interrupt_at in screen:
                interrupt_at = b""
                os.killpg(command.pid, signal.SIGINT)
    os.close(ours)
    return Ended(command.wait(PATIENCE), screen.decode().replace("\r\n", "\n"))


def without_progress(told: str) -> str:
    """What a pipe was told but for the progress, of which work that takes a second gets a line."""
    return re.sub(r"^hilos: \d+ of \d+, .*\n", "", told, flags=re.MULTILINE)


def below_the_bar(written: str) -> str:
    """What a terminal was given once the bar was gone, which stands there if the work takes long."""
    return written.rpartition("\r")[2].removeprefix("\x1b[1A\x1b[2K")


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


# --- help, usage, configuration


async def test_the_help_explains_environment_and_exit_codes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ended = await in_process(capsys, "--help")
    assert ended.code == 0
    for word in ("demo", "get", "check", "run", "HILOS_API_KEY", "HILOS_BASE_URL", "HILOS_ACCOUNT"):
        assert word in ended.out
    codes = re.findall(r"^  (\d+) ", ended.out, re.MULTILINE)
    assert codes == ["0", "1", "2", "3", "4", "5", "130", "141"]
    assert max(map(len, lines(ended.out))) <= 80


async def test_the_module_runs_and_knows_its_version() -> None:
    ended = await process("--version")
    assert ended.code == 0
    assert re.fullmatch(r"hilos_async \d+\.\d+\S*\n", ended.out)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "{demo,get,check,gather,watch,list,contacts,run,export,pace}"),
        (["fetch"], "invalid choice: 'fetch'"),
        (["get"], "ID"),
        (["get", "nonsense", ONE, "more"], "'nonsense' is no execution id"),
        (["get", "nonsense", ONE, "more"], "'more' is no execution id"),
        (["get", ONE, "--timeout", "0"], "'0' is no positive number"),
        (["get", ONE, "--timeout", "nan"], "'nan' is no positive number"),
        (["get", ONE, "--timeout", "soon"], "'soon' is no positive number"),
        (["get", ONE, "--base-url", "ftp://x"], "base_url='ftp://x' needs http or https"),
        (["get", ONE, "--base-url", "ftp://x"], "it came from --base-url"),
        (["check", "--account", "a.b"], "account='a.b' is no account name"),
        (["check", "--account", "a.b"], "it came from --account"),
        (["demo", "--port", "65536"], "'65536' is no port"),
        (["demo", "--port", "-1"], "'-1' is no port"),
    ],
)
async def test_wrong_usage_is_2_and_nothing_is_sent(
    argv: list[str], said: str, fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = await in_process(capsys, *argv)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert fake.requests == 0


async def test_a_missing_key_is_2_and_says_where_keys_come_from(
    fake: FakeHilos, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HILOS_API_KEY")
    for argv in (["get", ONE], ["check"]):
        ended = await in_process(capsys, *argv)
        assert ended.code == 2
        assert ended.err == (
            "hilos: no API key: make one on the app's page dev/api-keys and set HILOS_API_KEY\n"
        )
    monkeypatch.setenv("HILOS_API_TOKEN", "two words")
    ended = await in_process(capsys, "check")
    assert ended.code == 2
    assert "the API key has white space or control characters: " in ended.err
    assert "set HILOS_API_TOKEN" in ended.err
    assert "token=" not in ended.err
    assert fake.requests == 0


async def test_a_variable_that_is_wrong_is_named(
    fake: FakeHilos, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HILOS_BASE_URL", "https://me:secret@api.example/api")
    ended = await in_process(capsys, "check")
    assert ended.code == 2
    assert "it came from HILOS_BASE_URL" in ended.err
    assert "secret" not in ended.err


@pytest.mark.parametrize("option", ["--token", "--key", "--api-key"])
async def test_a_key_as_an_option_is_refused_and_not_repeated(
    option: str, fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    for argv in ([option, KEY], [f"{option}={KEY}"]):
        ended = await in_process(capsys, "get", ONE, *argv)
        assert ended.code == 2
        assert "set HILOS_API_KEY" in ended.err
        assert KEY not in ended.err + ended.out
    assert fake.requests == 0


@pytest.mark.parametrize(
    ("environment", "options", "url", "url_from"),
    [
        ({}, {}, "https://api.hilos.io/api", "the default"),
        ({"HILOS_ACCOUNT": "acme"}, {}, "https://acme.api-us1.com", "HILOS_ACCOUNT"),
        (
            {"HILOS_ACCOUNT": "acme", "HILOS_BASE_URL": "https://a.example/x"},
            {},
            "https://a.example/x",
            "HILOS_BASE_URL",
        ),
        (
            {"HILOS_BASE_URL": "https://a.example/x"},
            {"account": "acme"},
            "https://acme.api-us1.com",
            "--account",
        ),
        (
            {"HILOS_BASE_URL": "https://a.example/x"},
            {"account": "acme", "base_url": "https://b.example"},
            "https://b.example",
            "--base-url",
        ),
    ],
)
async def test_options_win_over_the_environment(
    environment: dict[str, str],
    options: dict[str, str],
    url: str,
    url_from: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HILOS_API_TOKEN", KEY)
    made = _connection.connect(Namespace(**{"account": None, "base_url": None, **options}))
    assert made.url.startswith(url)
    assert made.url_from.startswith(url_from)
    assert made.key_from == "HILOS_API_TOKEN"
    assert url in repr(made.session)


# --- get


async def test_in_a_pipe_each_execution_is_one_whole_line(fake: FakeHilos) -> None:
    fake.put(ONE, status="COMPLETED", num_contacts=1_000, completed=875)
    flow = cast("dict[str, object]", fake.document(ONE)["flow"])
    fake.put(ONE, last_run_on="2026-03-01T20:15:00.000000-06:00", flow=flow | {"name": "A flow"})
    ended = await process("get", ONE, TWO, env={"TZ": "UTC", "COLUMNS": "80"})
    header, first, second = (re.split(r" {2,}", line) for line in lines(ended.out))
    assert (ended.code, without_progress(ended.err)) == (0, "")
    assert header == ["id", "status", "contacts", "completed", "rate", "last run", "flow"]
    assert first == [ONE, "COMPLETED", "1,000", "875", "87.5%", "2026-03-02 02:15", "A flow"]
    assert second[0] == TWO


async def test_what_an_execution_lacks_is_a_dash(
    fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.put(ONE, num_contacts=0, completed=0, last_run_on=None)
    fake.put(TWO, last_run_on="yesterday")
    fake.put(THREE, last_run_on="0001-01-01T00:30:00+14:00")
    ended = await in_process(capsys, "get", ONE, TWO, THREE)
    first, second, third = (re.split(r" {2,}", line) for line in lines(ended.out)[1:])
    assert first[2:6] == ["0", "0", "–", "–"]
    assert second[5] == "yesterday"
    assert third[5].startswith("1-01-01") or third[5].startswith("0001-01-01")


async def test_json_is_one_document_for_each_id_in_the_order_given(fake: FakeHilos) -> None:
    fake.remove(TWO)
    ended = await process("get", THREE, TWO, ONE, THREE.upper(), "--json")
    assert ended.code == 1
    third, second, first = ended.out.splitlines()
    assert FlowExecution.from_json(third).id == UUID(THREE)
    assert FlowExecution.from_json(first).id == UUID(ONE)
    told = json.loads(second)
    assert told["id"] == TWO
    assert told["error"].keys() == {"type", "message", "status"}
    assert (told["error"]["type"], told["error"]["status"]) == ("NotFoundError", 404)
    assert without_progress(ended.err) == "hilos: 1 of 3 lookups failed\n"
    assert fake.requests == 3


async def test_a_json_document_is_one_line_for_every_reader(fake: FakeHilos) -> None:
    fake.put(ONE, status_reason="a\u2028b\u2029c\x85d\r\ne")
    fake.faults.append(Fault.status(404, detail="f\u2028g\x85h", ids=[TWO]))
    for argv in (["get", "--json"], ["gather", "--format", "ndjson"]):
        ended = await process(argv[0], ONE, TWO, *argv[1:])
        documents = {line: json.loads(line) for line in ended.out.splitlines()}
        assert len(documents) == 2
        assert "a\\u2028b\\u2029c\\u0085d\\r\\ne" in ended.out
    listed = await process("list", "--format", "ids", "--limit", "1")
    fake.put(listed.out.strip(), status_reason="a\u2028b\u2029c\x85d\r\ne")
    ended = await process("list", "--format", "ndjson")
    assert ended.out.splitlines() == ended.out.removesuffix("\n").split("\n")
    assert "a\\u2028b\\u2029c\\u0085d\\r\\ne" in ended.out


async def test_a_failed_lookup_is_1_and_the_others_are_shown(
    fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.remove(TWO)
    ended = await in_process(capsys, "get", ONE, TWO)
    assert ended.code == 1
    assert ONE in ended.out
    assert TWO not in ended.out
    assert f"flow-execution/{TWO} got 404" in ended.err
    assert "hilos: 1 of 2 lookups failed" in ended.err
    alone = await in_process(capsys, "get", TWO)
    assert (alone.code, alone.out) == (1, "")
    assert "lookups failed" not in alone.err


async def test_a_refused_key_is_3_and_told_once(
    fake: FakeHilos, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HILOS_API_KEY", "another-secret")
    ended = await in_process(capsys, "get", ONE, TWO, THREE)
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.count("got 401") == 1
    assert "3 of 3 lookups failed" in ended.err
    assert "another-secret" not in ended.err


async def test_a_key_refused_on_the_way_loses_nothing(
    fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.faults.append(Fault.status(401, ids=[TWO]))
    ended = await in_process(capsys, "get", *map(str, IDS), "--json")
    documents = [json.loads(line) for line in ended.out.splitlines()]
    assert ended.code == 3
    assert [document["id"] for document in documents] == [str(id) for id in IDS]
    assert documents[1]["error"]["type"] == "AuthenticationError"


@pytest.mark.parametrize(
    "fault",
    [
        Fault.body(b"<h1>It works!</h1>", content_type="text/html"),
        Fault.body(b"<h1>Not Found</h1>", content_type="text/html", status=404),
        Fault.status(302, headers={"Location": "https://elsewhere.example/login"}),
        Fault.status(501),
    ],
)
async def test_no_sensible_answer_at_all_is_4(
    fault: Fault, fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.faults.append(fault)
    ended = await in_process(capsys, "get", ONE, TWO)
    assert (ended.code, ended.out) == (4, "")
    assert "2 of 2 lookups failed" in ended.err


async def test_the_timeout_is_the_whole_commands(
    fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.faults.append(Fault.delay(PATIENCE, ids=[TWO]))
    ended = await in_process(capsys, "get", ONE, TWO, "--timeout", "1.5", "--json")
    documents = [json.loads(line) for line in ended.out.splitlines()]
    assert ended.code == 1
    assert documents[1]["error"]["type"] == "DeadlineExceededError"
    assert (await in_process(capsys, "get", TWO, "--timeout", "0.2")).code == 4


async def test_what_the_api_says_moves_no_cursor(
    fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = cast("dict[str, object]", fake.document(ONE)["flow"])
    fake.put(ONE, flow=flow | {"name": "[red]\x1b[2J\nnext"}, status="\x1b]0;title\x07")
    fake.faults.append(Fault.status(404, detail="\x1b[2J\r", ids=[TWO]))
    ended = await in_process(capsys, "get", ONE, TWO)
    assert len(lines(ended.out)) == 2
    assert "[red]" in ended.out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", ended.out + ended.err)


async def test_a_character_that_the_encoding_lacks_does_not_end_the_command(
    fake: FakeHilos,
) -> None:
    flow = cast("dict[str, object]", fake.document(ONE)["flow"])
    fake.put(ONE, flow=flow | {"name": "Año nuevo 🎉"})
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    ended = await process("get", ONE, env=ascii_only)
    assert ended.code == 0
    assert "A?o nuevo ?" in ended.out
    as_json = await process("get", ONE, "--json", env=ascii_only)
    assert FlowExecution.from_json(as_json.out).flow.name == "Año nuevo 🎉"


async def test_text_that_moves_no_cursor_stays_as_it_is() -> None:
    assert _show.clean("a\N{NO-BREAK SPACE}b 👩\N{ZERO WIDTH JOINER}💻") == "a\xa0b 👩\u200d💻"
    assert _show.clean("\x9b2J\u202etxt\u2028") == "\ufffd2J\ufffdtxt\ufffd"


# --- check


async def test_check_is_content_with_a_404_in_the_apis_words(
    fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.remove(UUID(int=0))
    ended = await in_process(capsys, "check")
    assert (ended.code, ended.err) == (0, "")
    assert lines(ended.out) == [
        f"URL  {fake.base_url} (from HILOS_BASE_URL)",
        "key  from HILOS_API_KEY",
        "good The API is there and takes the key.",
    ]
    assert fake.requests == 1


async def test_check_is_content_with_an_execution(
    fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (await in_process(capsys, "check")).code == 0


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (Fault.status(401), 3, "refuses the key in HILOS_API_KEY (401: Invalid token.)"),
        (Fault.status(403), 3, "may not read executions (403: You do not have permission"),
        (Fault.body(b"", status=401), 3, "(401: no reason given)"),
        (Fault.status(429, retry_after=1_000), 4, "asks to wait (429)"),
        (Fault.status(503), 4, "A server is there, but fails (503)"),
        (Fault.body(b"Not here", status=404), 4, "It ends where /flow-execution begins"),
        (Fault.body(b"<h1>It works!</h1>"), 4, "Something answers there, but not this API"),
        (
            Fault.status(301, headers={"Location": "https://elsewhere.example/x"}),
            4,
            "a redirect to https://elsewhere.example",
        ),
        (Fault.reset(), 4, "No usable answer from there"),
    ],
)
async def test_check_says_what_is_wrong(
    fault: Fault, code: int, said: str, fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.faults.append(fault)
    ended = await in_process(capsys, "check")
    assert ended.code == code
    assert said in ended.out.splitlines()[2] + "".join(ended.out.splitlines()[3:])
    assert ended.out.splitlines()[2].startswith("bad  ")
    assert KEY not in ended.out + ended.err


async def test_check_says_that_nobody_is_there(
    fake: FakeHilos, capsys: pytest.CaptureFixture[str]
) -> None:
    async with FakeHilos() as gone:
        pass
    ended = await in_process(capsys, "check", "--base-url", gone.base_url)
    assert ended.code == 4
    assert "Is the URL (from --base-url) right, and this machine online?" in ended.out
    assert fake.requests == 0


@pytest.mark.parametrize(
    ("cause", "code", "said"),
    [
        (None, 4, "No usable answer"),
        (RateLimitError("later", status=429), 4, "asks to wait"),
        (ServerError("broken", status=500), 4, "fails (500)"),
        (AuthenticationError("no", status=401), 3, "refuses the key"),
    ],
)
async def test_a_check_that_ran_out_of_time_is_judged_by_its_last_error(
    cause: HilosError | None, code: int, said: str
) -> None:
    error = DeadlineExceededError("too late", timeout=1.0)
    error.__cause__ = cause
    connection = _connection.Connection(HilosSession(KEY), "https://x", "--base-url", "a variable")
    found, words = _check.verdict(error, connection)
    assert found == code
    assert said in words


# --- the streams


@pytest.mark.parametrize("argv", [["get", ONE], ["get", ONE, "--json"], ["check"], ["--help"]])
async def test_a_broken_pipe_ends_quietly(argv: Sequence[str], fake: FakeHilos) -> None:
    readable, writable = os.pipe()
    os.close(readable)
    command = await asyncio.create_subprocess_exec(
        *HILOS,
        *argv,
        stdout=writable,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": ""},  # argparse leaves its text in the buffer
    )
    os.close(writable)
    _, told = await asyncio.wait_for(command.communicate(), PATIENCE)
    assert told == b""
    assert command.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
async def test_a_full_disk_is_an_error_that_says_so(fake: FakeHilos) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    command = await asyncio.create_subprocess_exec(
        *HILOS, "get", ONE, "--json", stdout=full, stderr=subprocess.PIPE
    )
    os.close(full)
    _, told = await asyncio.wait_for(command.communicate(), PATIENCE)
    assert command.returncode == 1
    assert told.decode() == "hilos: the output cannot be written: No space left on device\n"


async def test_messages_that_nobody_reads_change_nothing(fake: FakeHilos) -> None:
    fake.faults.append(Fault.delay(1.5, ids=[TWO]))
    fake.remove(THREE)
    readable, writable = os.pipe()
    os.close(readable)
    command = await asyncio.create_subprocess_exec(
        *HILOS, "get", ONE, TWO, THREE, stdout=subprocess.PIPE, stderr=writable
    )
    os.close(writable)
    out, _ = await asyncio.wait_for(command.communicate(), PATIENCE)
    assert command.returncode == 1
    assert len(out.splitlines()) == 3


async def test_closed_streams_change_nothing(
    fake: FakeHilos, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.remove(TWO)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", None)
        patched.setattr(sys, "stderr", None)
        code = await anyio.to_thread.run_sync(main, ["get", ONE, TWO])
    assert code == 1


@pytest.mark.parametrize("times", [1, 3])
async def test_ctrl_c_ends_quietly_however_often_it_is_pressed(times: int, fake: FakeHilos) -> None:
    fake.faults.append(Fault.delay(PATIENCE))
    # A measurement of coverage writes its file at the end, and tells of a Ctrl-C that meets it there.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = await asyncio.create_subprocess_exec(
        *HILOS, "get", ONE, TWO, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True, env=env,
    )  # fmt: skip
    with anyio.fail_after(PATIENCE):
        while fake.in_flight < 2:  # noqa: ASYNC110 - it is for another process to happen
            await anyio.sleep(0.01)
        for _ in range(times):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(command.pid, signal.SIGINT)
            await anyio.sleep(0.01)
        out, told = await command.communicate()
    # Pressed when Python itself has nothing left to do, it is the system's; to a shell it is 130 too.
    assert command.returncode in (130, -signal.SIGINT)
    assert out == b""
    assert re.fullmatch(rb"(hilos: 0 of 2, \d+ s\n)*", told)


# --- progress and terminals


async def test_work_that_lasts_shows_a_bar_on_a_terminal(fake: FakeHilos) -> None:
    fake.faults.append(Fault.delay(1.5, ids=[TWO]))
    ended = await terminal("get", ONE, TWO)
    assert ended.code == 0
    assert "━━━" in ended.out
    assert "1 of 2" in ended.out
    assert "\x1b[?25h" in ended.out  # the cursor is back
    assert "━" not in ended.out.rpartition("\x1b[2K")[2]  # and the bar is gone


async def test_without_rich_it_is_a_line_that_is_written_over(
    fake: FakeHilos, no_rich: dict[str, str]
) -> None:
    fake.faults.append(Fault.delay(1.5, ids=[TWO]))
    ended = await terminal("get", ONE, TWO, env=no_rich)
    assert ended.code == 0
    assert "\r[##########----------] 1 of 2" in ended.out
    assert "\x1b" not in ended.out
    before, *_, table = ended.out.split("\r")
    assert before == ""
    assert table.startswith("id ")


@pytest.mark.parametrize("with_rich", [True, False])
async def test_ctrl_c_puts_the_terminal_right(
    with_rich: bool, fake: FakeHilos, no_rich: dict[str, str]
) -> None:
    fake.faults.append(Fault.delay(PATIENCE))
    env = {} if with_rich else no_rich
    ended = await terminal("get", ONE, TWO, env=env, interrupt_at="0 of 2")
    assert ended.code == 130
    assert "Traceback" not in ended.out
    assert ended.out.endswith("\n")
    assert ended.out.count("\x1b[?25l") == ended.out.count("\x1b[?25h")  # the cursor


async def test_rich_colours_the_status(fake: FakeHilos) -> None:
    fake.put(ONE, status="COMPLETED")
    ended = await terminal("get", ONE, colour=True)
    assert "\x1b[32mCOMPLETED" in ended.out


@pytest.mark.parametrize("where", ["pipe", "dumb terminal"])
async def test_elsewhere_progress_is_plain_lines(where: str, fake: FakeHilos) -> None:
    fake.faults.append(Fault.delay(2.0, ids=[TWO]))
    if where == "pipe":
        ended = await process("get", ONE, TWO)
        assert re.fullmatch(r"(hilos: [01] of 2, .*\n)+", ended.err)
    else:
        ended = await terminal("get", ONE, TWO, env={"TERM": "dumb"})
        assert re.match(r"(hilos: [01] of 2, .*\n)+id ", ended.out)
    assert ended.code == 0
    assert "\r" not in ended.out + ended.err
    assert "\x1b" not in ended.out + ended.err


async def test_long_messages_break_between_words_and_leave_ids_whole(fake: FakeHilos) -> None:
    fake.remove(ONE)
    ended = await terminal("get", ONE)
    assert ended.code == 1
    told = below_the_bar(ended.out)
    assert max(map(len, lines(told))) <= 80
    assert ONE in told


@pytest.mark.parametrize(
    ("done", "failed", "elapsed", "paused", "words"),
    [
        (0, 0, 3.2, 0.0, "0 of 100, 3 s"),
        (5, 0, 10.0, 0.0, "5 of 100, 0.5/s, 3:10 min left"),
        (50, 2, 2.0, 0.0, "50 of 100, 25/s, 2 s left, 2 failed"),
        (1, 0, 60.0, 29.6, "1 of 100, 0.0/s, 1:39:00 h left, paused for 30 s"),
        (100, 0, 99.4, 0.0, "100 of 100, 99 s"),
    ],
)
async def test_the_state_in_words(
    done: int, failed: int, elapsed: float, paused: float, words: str
) -> None:
    assert _meter.words(done, failed, 100, elapsed, paused) == words


async def test_a_terminal_that_goes_away_does_not_end_the_work(
    fake: FakeHilos, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Gone:
        def draw(self, done: int, words: str) -> None:
            raise OSError(errno.EIO, "gone")

        def close(self) -> None:
            raise AssertionError("drawing fails first")

    def gone(total: int, is_terminal: bool, keep: bool) -> Gone:
        return Gone()

    monkeypatch.setattr(_meter, "_display", gone)
    monkeypatch.setattr(_show, "is_terminal", lambda stream: stream is sys.stderr)
    fake.faults.append(Fault.delay(0.8))
    assert (await in_process(capsys, "get", ONE)).code == 0


# --- demo


async def test_the_demo_shows_the_main_job() -> None:
    ended = await process("demo")
    assert ended.code == 0
    assert "COMPLETED " in ended.out
    assert "500 of 500 executions fetched in " in ended.out
    assert re.search(r"Retried: \d+ requests failed .* \d+ were sent again\.", ended.out)
    assert re.search(r"Paced: \d+ requests at \d+ per second; the limit of 120 ", ended.out)
    assert "".join(f"    {line}".rstrip() + "\n" for line in lines(_demo.SIX_LINES)) in ended.out
    assert re.search(r"^hilos: \d+ of 500, \d+/s, \d+ s left$", ended.err, re.MULTILINE)
    assert max(map(len, lines(ended.out))) <= 80


@pytest.mark.parametrize("with_rich", [True, False])
async def test_the_demo_on_a_terminal_leaves_its_bar(
    with_rich: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(_demo, "COUNT", 100)
    monkeypatch.setattr(_show, "is_terminal", lambda stream: stream is sys.stderr)
    if not with_rich:
        monkeypatch.setitem(sys.modules, "rich", None)
    ended = await in_process(capsys, "demo")
    assert ended.code == 0
    assert "100 of 100 executions fetched" in ended.out
    assert ("━━━" if with_rich else "[####################] 100 of 100") in ended.err
    assert "100 of 100" in ended.err.rpartition("\r")[2] or with_rich


async def test_the_six_lines_are_six_and_work(fake: FakeHilos) -> None:
    namespace: dict[str, object] = {"ids": IDS}
    assert len([line for line in lines(_demo.SIX_LINES) if line]) == 6
    code = compile(_demo.SIX_LINES, "six lines", "exec")
    await anyio.to_thread.run_sync(exec, code, namespace)
    assert repr(namespace["batch"]) == "<ExecutionBatch of 5: 5 fetched>"
    assert fake.requests == 5


async def test_demo_serve_prints_what_points_everything_at_it() -> None:
    server = await asyncio.create_subprocess_exec(
        *HILOS, "demo", "--serve", "--lifetime", "0.2",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert server.stdout is not None
    with anyio.fail_after(PATIENCE):
        printed = [(await server.stdout.readline()).decode() for _ in range(2)]
    given = dict(
        re.findall(r"^export (HILOS_API_KEY|HILOS_BASE_URL)=(\S+)$", "".join(printed), re.M)
    )
    assert given.keys() == {"HILOS_API_KEY", "HILOS_BASE_URL"}
    try:
        assert (await process("check", env=given)).code == 0
        assert (await process("get", ONE, env=given)).code == 0
        assert (await process("watch", ONE, env=given)).code == 0  # it moves, and ends
        assert (await process("get", _demo.MISSING, env=given)).code == 1
        port = given["HILOS_BASE_URL"].rpartition(":")[2].partition("/")[0]
        taken = await process("demo", "--port", port)
        assert taken.code == 2
        assert f"port {port} cannot be used" in taken.err
    finally:
        os.killpg(server.pid, signal.SIGINT)
        out, told = await asyncio.wait_for(server.communicate(), PATIENCE)
    assert server.returncode == 0
    assert out == b""
    assert b"Traceback" not in told


async def test_ctrl_c_in_the_demo_is_130() -> None:
    demo = await asyncio.create_subprocess_exec(
        *HILOS, "demo", stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert demo.stderr is not None
    with anyio.fail_after(PATIENCE):
        await demo.stderr.readline()
        os.killpg(demo.pid, signal.SIGINT)
        out, told = await demo.communicate()
    assert demo.returncode == 130
    assert out == b""
    assert re.fullmatch(rb"(hilos: .*\n)*", told)


# --- what it costs


async def test_the_command_imports_what_it_needs_when_it_needs_it() -> None:
    code = (
        "import sys, hilos_async.cli; print(*{'rich', 'hilos_async.testing'} & sys.modules.keys())"
    )
    ended = await anyio.run_process([sys.executable, "-c", code])
    assert ended.stdout.split() == []


async def test_a_stream_that_is_no_file_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    _show.prepare()
    _show.data("kept")
    assert cast("io.StringIO", sys.stdout).getvalue() == "kept"
