"""The fixtures for users, as users run them: small suites, each in a pytest process of its own."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from anyio import pytest_plugin

if TYPE_CHECKING:
    from pathlib import Path

CONFTEST = """
import pytest

pytest_plugins = ["hilos_async.testing.fixtures"]

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""

IMPORTS = """
import asyncio, os, subprocess, sys
import pytest
from hilos_async import HilosSession, NotFoundError, RateLimitError
from hilos_async.testing import FakeHilos, FakeLimit, Fault

ID = "a1b2c3d4-0000-4000-8000-000000000001"
IDS = [f"a1b2c3d4-0000-4000-8000-{n:012}" for n in range(20)]
"""

# What a user orders: executions, a missing one, a fault, a limit. The last test finds all as new.
SUITE = """
async def test_an_execution_to_order(fake_hilos, hilos):
    fake_hilos.put(ID, status="PAUSED", num_contacts=7)
    execution = await hilos.get_execution(ID)
    assert (execution.status, execution.num_contacts) == ("PAUSED", 7)

async def test_a_missing_one(fake_hilos, hilos):
    fake_hilos.remove(ID)
    with pytest.raises(NotFoundError):
        await hilos.get_execution(ID)

async def test_a_fault(fake_hilos, hilos):
    fake_hilos.faults.append(Fault.reset("body", times=1, ids=IDS[:3]))
    assert len((await hilos.gather_executions(IDS)).executions) == 20
    assert fake_hilos.faulted == 3

async def test_a_limit(fake_hilos, hilos):
    fake_hilos.limit = FakeLimit(1, per=3_600, retry_after=3_600)
    await hilos.get_execution(IDS[0])
    with pytest.raises(RateLimitError):
        await hilos.get_execution(IDS[1])

async def test_code_that_makes_its_own_session(fake_hilos):
    async with HilosSession() as hilos:
        assert (await hilos.get_execution(ID)).id is not None
    assert fake_hilos.requests == 1

async def test_leaving_lookups_behind(fake_hilos, hilos):
    fake_hilos.faults.append(Fault.delay(60))
    task = asyncio.create_task(hilos.gather_executions(IDS))
    while fake_hilos.in_flight < 5:
        await asyncio.sleep(0.001)
    task.cancel()

async def test_each_test_has_its_own(fake_hilos, hilos):
    assert fake_hilos.requests == 0 and fake_hilos.limit is None and fake_hilos.faults == []
    assert (await hilos.get_execution(ID)).num_contacts != 7
"""
COUNT = SUITE.count("def test_")


def run(directory: Path, suite: str, *options: str, conftest: str = CONFTEST) -> str:
    """What pytest prints of a suite, with every warning an error."""
    (directory / "conftest.py").write_text(conftest, encoding="utf-8")
    (directory / "test_suite.py").write_text(IMPORTS + suite, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", *options]
    ran = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )
    return ran.stdout + ran.stderr


def marked(mark: str) -> str:
    return re.sub(r"^async def", f"@pytest.mark.{mark}\nasync def", SUITE, flags=re.M)


ASYNCIO = ("-o", "asyncio_default_fixture_loop_scope=function")  # older pytest-asyncio asks for it
SESSION_LOOP = (
    *("-o", "asyncio_default_fixture_loop_scope=session"),
    *("-o", "asyncio_default_test_loop_scope=session"),
)


@pytest.mark.parametrize(
    ("suite", "options"),
    [
        pytest.param(marked("anyio"), ASYNCIO, id="anyio"),
        pytest.param(marked("anyio"), ("-p", "no:asyncio"), id="anyio-alone"),
        pytest.param(marked("asyncio"), ASYNCIO, id="pytest-asyncio-strict"),
        pytest.param(SUITE, (*ASYNCIO, "--asyncio-mode=auto"), id="pytest-asyncio-auto"),
        pytest.param(
            marked("anyio"),
            (*ASYNCIO, "--asyncio-mode=auto"),
            id="anyio-beside-pytest-asyncio-auto",
        ),
        pytest.param(
            marked("anyio\n@pytest.mark.asyncio"), ASYNCIO, id="both-marks-in-strict-mode"
        ),
        pytest.param(
            SUITE,
            (*ASYNCIO, "--asyncio-mode=auto", "-o", "anyio_mode=auto", "-W", "ignore:AnyIO auto"),
            id="both-in-auto-mode",
            marks=pytest.mark.skipif(
                "anyio_mode" not in inspect.getsource(pytest_plugin),
                reason="this anyio has no auto mode",
            ),
        ),
        pytest.param(marked("asyncio"), ("-p", "no:anyio", *ASYNCIO), id="pytest-asyncio-alone"),
        pytest.param(marked("asyncio"), SESSION_LOOP, id="pytest-asyncio-one-loop-for-all"),
        pytest.param(
            marked("asyncio"), (*ASYNCIO, *SESSION_LOOP[2:]), id="pytest-asyncio-one-loop-for-tests"
        ),
        pytest.param(
            marked("asyncio(loop_scope='module')"), ASYNCIO, id="pytest-asyncio-a-loop-by-mark"
        ),
    ],
)
def test_the_same_fixtures_work_under_each_plugin_and_leave_nothing_open(
    tmp_path: Path, suite: str, options: tuple[str, ...]
) -> None:
    printed = run(tmp_path, suite, *options)
    assert f"{COUNT} passed in" in printed, printed
    assert "Unclosed" not in printed
    assert "unclosed" not in printed


def test_tests_of_both_plugins_stand_side_by_side(tmp_path: Path) -> None:
    by_anyio = marked("anyio").replace("def test_", "def test_anyio_")
    printed = run(tmp_path, marked("asyncio") + by_anyio, *ASYNCIO)
    assert f"{2 * COUNT} passed in" in printed, printed


def test_without_pytest_asyncio_the_plugin_works_as_well(tmp_path: Path) -> None:
    (tmp_path / "pytest_asyncio.py").write_text("raise ImportError('not installed')")
    printed = run(tmp_path, marked("anyio"), "-p", "no:asyncio")
    assert f"{COUNT} passed in" in printed, printed


def test_a_session_left_open_would_have_failed_these_runs(tmp_path: Path) -> None:
    suite = """
@pytest.mark.anyio
async def test_forgetful(fake_hilos):
    await fake_hilos.session().get_execution(ID)
"""
    printed = run(tmp_path, suite, *ASYNCIO)
    assert re.search("[Uu]nclosed", printed), printed


def test_an_ordinary_test_asks_the_server_from_its_own_loop_and_from_other_processes(
    tmp_path: Path,
) -> None:
    suite = """
async def status():
    async with HilosSession() as hilos:
        return (await hilos.get_execution(ID)).status

def test_its_own_loop(fake_hilos):
    fake_hilos.put(ID, status="PAUSED")
    assert asyncio.run(status()) == "PAUSED"

def test_another_process(fake_hilos):
    fake_hilos.put(ID, status="PAUSED")
    command = [sys.executable, "-m", "hilos_async", "get", "--json", ID]
    assert b'"status":"PAUSED"' in subprocess.check_output(command)

def test_the_environment_is_as_it_was():
    assert os.environ["HILOS_API_KEY"] == "a real key"
    assert "HILOS_BASE_URL" not in os.environ
"""
    conftest = CONFTEST + "import os\nos.environ['HILOS_API_KEY'] = 'a real key'\n"
    printed = run(tmp_path, suite, *ASYNCIO, conftest=conftest)
    assert "3 passed in" in printed, printed


def test_a_session_in_a_test_that_cannot_await_says_what_to_do(tmp_path: Path) -> None:
    printed = run(tmp_path, "\ndef test_it(hilos): ...\n", *ASYNCIO)
    assert "1 error in" in printed
    assert "pytest.mark.anyio or pytest.mark.asyncio" in printed


def test_another_loop_than_asyncio_says_what_to_do(tmp_path: Path) -> None:
    suite = '\n@pytest.mark.anyio\n@pytest.mark.parametrize("anyio_backend", ["trio"])\n'
    printed = run(tmp_path, suite + "async def test_it(hilos): ...\n", *ASYNCIO)
    assert "1 error in" in printed
    assert "let the fixture anyio_backend return 'asyncio'" in printed


def test_users_see_what_the_fixtures_are(tmp_path: Path) -> None:
    printed = run(tmp_path, "", "--fixtures", "-p", "no:asyncio")
    for name in ("fake_hilos", "hilos"):
        assert re.search(rf"^{name} -- [^\n]*fixtures\.py[^\n]*\n    A ", printed, re.M), printed


def test_the_fakes_can_be_had_without_pytest() -> None:
    script = "import sys, hilos_async.testing; print('pytest' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
