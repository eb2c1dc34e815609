"""The commands of the board's page do what it says, as processes, and stop when told to."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.browser import PATIENCE
from tests.campaign_board.stage import EXAMPLE, free_port
from tests.markdown_blocks import ROOT

if TYPE_CHECKING:
    from collections.abc import Generator

PAGE = ROOT / "docs" / "campaign-board.md"


def commands() -> list[str]:
    """What the page's blocks of shell say."""
    return re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)


@contextlib.contextmanager
def running(command: str, **environment: str) -> Generator[subprocess.Popen[str]]:
    """Run a command where the page says, with the `python` of these tests; ended by Ctrl-C here."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        ["bash", "-c", f"exec env {command}"],
        cwd=ROOT,
        env={**os.environ, "PATH": path, "PYTHONWARNINGS": "error", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def first_names(port: int, process: subprocess.Popen[str]) -> http.client.HTTPConnection:
    """Look at the board until the first campaign has a name; gives the connection, still open."""
    deadline = time.monotonic() + PATIENCE
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.request("GET", "/events")
            break
        except ConnectionRefusedError:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.02)
    answer = connection.getresponse()
    while b'"status":"' not in answer.readline().replace(b'"status":""', b""):
        assert not answer.closed
    return connection


def ended_well(process: subprocess.Popen[str], sent: signal.Signals) -> None:
    """It stops when told to, though a browser still listens, and complains of nothing."""
    process.send_signal(sent)
    told, _ = process.communicate(timeout=PATIENCE)
    assert "Application shutdown complete" in told
    for trouble in ("Traceback", "ERROR", "never retrieved", "Unclosed", "Warning"):
        assert trouble not in told, told


def test_the_one_command_of_the_page_shows_campaigns_that_move() -> None:
    command = commands()[0].strip()
    assert command == f"python {(EXAMPLE / 'demo.py').relative_to(ROOT)}"
    port = free_port()
    with running(f"{command} --port {port}") as process:
        connection = first_names(port, process)
        ended_well(process, signal.SIGINT)
        connection.close()


def test_the_command_for_hilos_demo_serve_works_against_it() -> None:
    command = commands()[1].strip()
    port, api_port = free_port(), free_port()
    assert "--serve --port 8080" in PAGE.read_text(encoding="utf-8")
    command = f"{command.replace('8080', str(api_port))} --port {port}"
    with running(f"{sys.executable} -m hilos_async demo --serve --port {api_port}") as demo:
        assert demo.stdout is not None
        exports = demo.stdout.readline() + demo.stdout.readline()
        assert "export HILOS_API_KEY=fake-hilos-key" in exports
        with running(command) as process:
            connection = first_names(port, process)
            ended_well(process, signal.SIGTERM)
            connection.close()


def test_without_a_key_it_says_what_is_missing() -> None:
    command = commands()[2].splitlines()[1].replace("ids.txt", f"{EXAMPLE / 'ids.txt'}")
    with running(f"{command} --port {free_port()}") as process:
        told, _ = process.communicate(timeout=PATIENCE)
    assert "set HILOS_API_KEY" in told
    assert process.returncode != 0
