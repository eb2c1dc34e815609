"""A real uvicorn in front of an app: in this loop, or as a process of its own.

Knows how to start and stop one, and the `main.py` of docs/fastapi.md. Refuses to know
what the app answers.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import anyio
import uvicorn
from fastapi import FastAPI

from hilos_async.testing import FakeHilos
from tests.markdown_blocks import ROOT, blocks
from tests.raw_server import until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

PAGE = ROOT / "docs" / "fastapi.md"
[WIRING] = (b for b in blocks("python") if b.path == PAGE and b.title == "main.py")


def wired() -> FastAPI:
    """The app `main.py` of docs/fastapi.md, as it stands there."""
    names: dict[str, Any] = {"__name__": "wiring"}
    exec(compile(WIRING.source, str(WIRING.path), "exec", dont_inherit=True), names)
    return cast(FastAPI, names["app"])


def environment(fake: FakeHilos) -> dict[str, str]:
    """What points a HilosSession() at the fake."""
    return {"HILOS_API_KEY": fake.token, "HILOS_BASE_URL": fake.base_url}


def listener() -> socket.socket:
    """A port of loopback that listens."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(512)
    return sock


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncGenerator[str, None]:
    """Serve the app in this loop; gives its address."""
    sock = listener()
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    server = uvicorn.Server(
        uvicorn.Config(app, lifespan="on", log_config=None, ws="wsproto", access_log=False)
    )
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        await until(lambda: server.started or task.done())
        yield url
    finally:
        server.should_exit = True
        await task


class Worker:
    """A uvicorn process that serves ``main:app`` of a directory on a socket that others may share."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.log = ""

    @classmethod
    async def start(
        cls, directory: Path, sock: socket.socket, fake: FakeHilos, *options: str
    ) -> Worker:
        """Start it and wait until the app has."""
        command = [sys.executable, "-W", "always::ResourceWarning", "-m", "uvicorn", "main:app"]
        process = await asyncio.create_subprocess_exec(
            *command,
            *("--fd", str(sock.fileno()), "--app-dir", str(directory), "--no-access-log", *options),
            env=os.environ | environment(fake) | {"PYTHONPATH": str(ROOT), "HILOS_LOG": "debug"},
            pass_fds=[sock.fileno()],
            stderr=asyncio.subprocess.PIPE,
        )
        worker = cls(process)
        assert process.stderr is not None
        with anyio.fail_after(60):
            while "Application startup complete" not in worker.log:
                line = await process.stderr.readline()
                assert line, worker.log
                worker.log += line.decode()
        return worker

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    async def ended(self) -> int:
        """Wait until it is gone, its log read to the end; gives the exit code."""
        assert self._process.stderr is not None
        with anyio.fail_after(60):
            self.log += (await self._process.stderr.read()).decode()
            return await self._process.wait()
