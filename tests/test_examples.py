"""The examples of fleets run as their docstrings say, on a real redis-server and under a real limit."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
import shutil
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import anyio
import pytest

from benchmarks import machines
from hilos_async import FlowExecution
from hilos_async.testing import FakeHilos, FakeLimit
from tests.markdown_blocks import ROOT
from tests.redis_server import BINARY, MISSING, RedisServer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from anyio.abc import Process

pytestmark = pytest.mark.anyio

RATE = 50
IDS = [UUID(int=number) for number in range(1, 201)]
MISSING_ID = UUID(int=404)
PATIENCE = 120.0
IDLE = 5.5  # longer than redis-py waits for an answer, unless told otherwise
NEEDS = {"taskiq_fleet": "taskiq_redis", "dask_fleet": "distributed"}

needs_redis = pytest.mark.skipif(BINARY is None, reason=MISSING)


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
async def fake(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FakeHilos]:
    """The server and the Redis that the environment points the example at.

    Its event loop is this process's, which waits while the processes of the example work.
    """
    async with FakeHilos(limit=FakeLimit(RATE), latency=0.02) as server:
        server.remove(MISSING_ID)
        monkeypatch.setenv("HILOS_API_KEY", server.token)
        monkeypatch.setenv("HILOS_BASE_URL", server.base_url)
        monkeypatch.setenv("HILOS_RATE", str(RATE))
        monkeypatch.setenv("REDIS_URL", redis_server.url)
        scripts = Path(sys.executable).parent
        monkeypatch.setenv("PATH", f"{scripts}{os.pathsep}{os.environ['PATH']}")
        yield server


def copied(name: str, directory: Path) -> list[str]:
    """Copy an example to where a user would have it; gives the commands of its docstring."""
    if importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is missing: nox -s tests brings it")
    path = Path(shutil.copy(ROOT / "examples" / f"{name}.py", directory))
    words = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    (directory / "ids.txt").write_text("\n".join(map(str, [*IDS, MISSING_ID, "nonsense", IDS[0]])))
    return re.findall(r"^    (\S.*)$", words, re.M)


@asynccontextmanager
async def background(command: str, directory: Path) -> AsyncGenerator[Process]:
    """Run a command that the block ends; if the block fails, it is ended here."""
    process = await anyio.open_process(shlex.split(command), cwd=directory)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            with anyio.move_on_after(10, shield=True):
                await process.wait()


async def read_until(process: Process, word: str, count: int) -> str:
    """What the process writes until it has written a word that often, or has ended."""
    assert process.stderr is not None
    text = ""
    async for chunk in process.stderr:
        text += chunk.decode()
        if text.count(word) >= count:
            break
    return text


async def fetches_all(command: str, directory: Path, fake: FakeHilos) -> None:
    """The command accounts for every id once, with more than one process, within the limit."""
    ran = await anyio.run_process(["bash", "-c", command], cwd=directory, check=False)
    told = ran.stderr.decode()
    summary = re.search(r"^(\d+) fetched, (\d+) failed, (\d+) processes$", told, re.M)
    assert summary is not None, told
    fetched, failed, processes = map(int, summary.groups())
    assert (fetched, failed) == (len(IDS), 2), told
    assert processes == 2
    assert ran.returncode == 1
    printed = (directory / "executions.jsonl").read_bytes().splitlines()
    assert sorted(str(FlowExecution.from_json(line).id) for line in printed) == list(map(str, IDS))
    errors = dict(re.findall(r"^(\S+): (.*)$", told, re.M))
    assert "404" in errors[str(MISSING_ID)]
    assert "no execution id" in errors["nonsense"]
    assert "Traceback" not in told
    assert "Unclosed" not in told
    assert fake.refused <= 6  # of two processes that share nothing it refuses 13
    assert fake.accepted == len(IDS) + 1


@needs_redis
async def test_taskiq_workers_share_the_limit(fake: FakeHilos, tmp_path: Path) -> None:
    workers, give_out = copied("taskiq_fleet", tmp_path)
    with anyio.fail_after(PATIENCE):
        async with background(workers, tmp_path) as process:
            started = await read_until(process, "Listening started", 2)
            assert started.count("Listening started") == 2, started
            await anyio.sleep(IDLE)
            await fetches_all(give_out, tmp_path, fake)
            process.terminate()
            ended = await read_until(process, "never", 1)
            assert await process.wait() == 0
    assert "is dead" not in ended
    assert "Traceback" not in ended
    assert "Unclosed" not in ended


@needs_redis
async def test_dask_workers_share_the_limit(fake: FakeHilos, tmp_path: Path) -> None:
    [command] = copied("dask_fleet", tmp_path)
    with anyio.fail_after(PATIENCE):
        await fetches_all(command, tmp_path, fake)


def test_the_page_shows_the_table_that_is_computed() -> None:
    page = (ROOT / "docs" / "fleets.md").read_text(encoding="utf-8")
    assert f"\n{machines.table()}\n" in page, "python -m benchmarks.machines --table prints it"
