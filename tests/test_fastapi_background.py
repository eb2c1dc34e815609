"""The recipe of docs/fastapi-background.md: it polls, answers from memory, and survives a restart."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

pytest.importorskip("fastapi")

from fastapi import FastAPI
from fastapi.testclient import TestClient

from hilos_async.fastapi import hilos_lifespan, session_of
from hilos_async.testing import FakeHilos
from tests.markdown_blocks import blocks

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["hilos_async.testing.fixtures"]

RUNNING = "a1b2c3d4-0000-4000-8000-000000000001"
COMPLETED = "a1b2c3d4-0000-4000-8000-000000000002"
PATIENCE = 30.0
[RECIPE] = (
    block
    for block in blocks("python")
    if block.path.name == "fastapi-background.md" and block.title == "main.py"
)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], FastAPI]:
    """The app of the page, as a new process would have it, in a directory of its own."""
    monkeypatch.chdir(tmp_path)

    def app() -> FastAPI:
        # Under a module's name, where FastAPI and pydantic look for what annotations mean.
        found: dict[str, Any] = {"__name__": "recipe"}
        exec(compile(RECIPE.source, str(RECIPE.path), "exec", dont_inherit=True), found)
        made = found["app"]
        assert isinstance(made, FastAPI)
        return made

    return app


def known(client: TestClient) -> dict[str, str]:
    """The status of each campaign that the app answers."""
    answer = client.get("/campaigns").json()
    return {id: execution["status"] for id, execution in answer["executions"].items()}


def test_it_answers_from_memory_and_a_restart_costs_nothing(
    fake_hilos: FakeHilos, start: Callable[[], FastAPI]
) -> None:
    Path("ids.txt").write_text(f"{RUNNING}\n{COMPLETED}\n")
    fake_hilos.put(RUNNING, status="RUNNING")
    fake_hilos.put(COMPLETED, status="COMPLETED")
    there = {RUNNING: "RUNNING", COMPLETED: "COMPLETED"}
    with TestClient(start()) as client:
        deadline = time.monotonic() + PATIENCE
        while known(client) != there:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for _ in range(20):
            client.get("/campaigns")
        assert fake_hilos.requests == 2
        before = client.get("/campaigns").json()["as_of"]
        assert before is not None
    fake_hilos.revoke()  # from now on the API tells nothing
    with TestClient(start()) as client:
        assert known(client) == there
        assert client.get("/campaigns").json()["as_of"] is not None
    assert fake_hilos.asked[UUID(COMPLETED)] == 1, "what has ended is not asked again"
    assert len(Path("kept.ndjson").read_bytes().splitlines()) == 2


def test_session_of_gives_each_session_while_the_lifespan_is_open_and_no_other(
    fake_hilos: FakeHilos,
) -> None:
    app = FastAPI(lifespan=hilos_lifespan(archive=fake_hilos.session))
    with pytest.raises(RuntimeError, match="this app has no Hilos session"):
        session_of(app)
    with TestClient(app):
        assert session_of(app) is session_of(app)
        assert session_of(app, "archive") is not session_of(app)
        with pytest.raises(
            RuntimeError, match=r"no Hilos session named 'other' \(named: archive\)"
        ):
            session_of(app, "other")
    with pytest.raises(RuntimeError, match="this app has no Hilos session"):
        session_of(app)
