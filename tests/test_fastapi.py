"""hilos_async.fastapi as an app meets it: over the socket, with uvicorn between."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import aiohttp
import anyio
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse

import hilos_async.fastapi
from hilos_async import (
    FlowExecution,
    HilosError,
    HilosSession,
    NotFoundError,
    RetryPolicy,
)
from hilos_async._extras import install_command
from hilos_async.fastapi import (
    HilosDep,
    hilos_lifespan,
    hilos_session,
    install_exception_handlers,
    problem_for,
    session_named,
)
from hilos_async.testing import FakeHilos, Fault
from tests.asgi_server import environment, serving, wired
from tests.markdown_blocks import ROOT, blocks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio

ONE = "a1b2c3d4-0000-4000-8000-000000000001"
TWO = "a1b2c3d4-0000-4000-8000-000000000002"
ECHO = "Invalid token of ana@empresa.example"
QUICKLY = RetryPolicy(attempts=2, max_backoff=0.001)

ArchiveDep = Annotated[HilosSession, Depends(session_named("archive"))]


@asynccontextmanager
async def serving_wired(
    fake: FakeHilos, monkeypatch: pytest.MonkeyPatch, **defaults: object
) -> AsyncGenerator[tuple[str, FastAPI], None]:
    """Serve the page's app with other defaults of HilosSession, so that no retry is waited for."""
    for name, value in environment(fake).items():
        monkeypatch.setenv(name, value)
    options = {"retry": QUICKLY, **defaults}
    old = HilosSession.__init__.__kwdefaults__ or {}
    monkeypatch.setattr(HilosSession.__init__, "__kwdefaults__", old | options)
    app = wired()
    async with serving(app) as url:
        yield url, app


# --- the wiring and what it answers


async def test_the_three_lines_answer_an_execution_and_a_batch(
    fake: FakeHilos, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.remove(TWO)
    async with serving_wired(fake, monkeypatch) as (url, _):
        async with client.get(f"{url}/campaigns/{ONE}") as one:
            assert one.status == 200
            assert one.content_type == "application/json"
            execution = FlowExecution.from_json(await one.read())
            document = await one.json()
        query = {"id": [ONE, TWO, "nonsense"]}
        async with client.get(f"{url}/campaigns", params=query) as many:
            batch = await many.json()
    assert document["id"] == ONE
    assert json.loads(execution.to_json()) == document
    assert batch["executions"] == {ONE: document}
    assert {id: error["status"] for id, error in batch["errors"].items()} == {
        TWO: 404,
        "nonsense": 400,
    }


ROWS = [
    # what goes wrong, the session's options, the status, and Retry-After
    pytest.param(Fault.status(404), {}, 404, None, id="not found"),
    pytest.param(Fault.status(429, retry_after=1000), {}, 503, (1000, 1000), id="rate limited"),
    pytest.param(Fault.status(429, retry_after=90), {}, 503, (60, 120), id="paused for too long"),
    pytest.param(Fault.status(503, retry_after=1000), {}, 503, (1000, 1000), id="busy"),
    pytest.param(Fault.delay(60), {"timeout": 0.05}, 504, None, id="deadline"),
    pytest.param(Fault.delay(60), {"attempt_timeout": 0.05}, 504, None, id="attempt timeout"),
    pytest.param(Fault.reset(), {}, 502, None, id="transport"),
    pytest.param(Fault.status(500), {}, 502, None, id="server error"),
    pytest.param(Fault.status(501), {}, 502, None, id="a server error that stays"),
    pytest.param(Fault.body(b"<html>"), {}, 502, None, id="no JSON"),
    pytest.param(Fault.body(b"{}"), {}, 502, None, id="another shape"),
    pytest.param(Fault.delay(0), {"max_response_bytes": 100}, 502, None, id="too large"),
    pytest.param(Fault.status(410), {}, 502, None, id="another status"),
    pytest.param(Fault.status(401, detail=ECHO), {}, 502, None, id="key refused"),
    pytest.param(Fault.status(403, detail=ECHO), {}, 502, None, id="not permitted"),
]


@pytest.mark.parametrize(("fault", "options", "status", "wait"), ROWS)
async def test_each_error_is_the_problem_that_the_table_says(
    fault: Fault,
    options: dict[str, object],
    status: int,
    wait: tuple[int, int] | None,
    fake: FakeHilos,
    client: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake.faults.append(fault)
    with caplog.at_level(logging.DEBUG):
        async with serving_wired(fake, monkeypatch, **options) as (url, _):
            async with client.get(f"{url}/campaigns/{ONE}") as reply:
                text = await reply.text()
                problem = await reply.json(content_type="application/problem+json")
    assert reply.status == problem["status"] == status
    assert problem["title"] == reply.reason
    assert problem["type"] == "about:blank"
    assert problem["execution_id"] == ONE
    assert problem.keys() == {"type", "title", "status", "detail", "execution_id", "retry_after"}
    if wait is None:
        assert "Retry-After" not in reply.headers
        assert problem["retry_after"] is None
    else:
        assert wait[0] <= problem["retry_after"] <= wait[1]
        assert reply.headers["Retry-After"] == str(problem["retry_after"])
    for secret in (fake.token, fake.base_url, "token", "empresa", "Invalid"):
        assert secret not in text
        assert secret not in str(reply.headers)
    # The operator hears what the client does not.
    told = [r for r in caplog.records if r.name == "hilos_async.fastapi"]
    assert len(told) == (status != 404)
    assert fake.token not in caplog.text
    assert ECHO not in "".join(r.getMessage() for r in told)


async def test_the_page_shows_the_problem_that_is_served(
    fake: FakeHilos, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    [shown] = [block.text for block in blocks("json") if block.path.name == "fastapi.md"]
    gone = json.loads(shown)["execution_id"]
    fake.remove(gone)
    async with serving_wired(fake, monkeypatch) as (url, _):
        async with client.get(f"{url}/campaigns/{gone}") as reply:
            assert await reply.json(content_type=None) == json.loads(shown)


async def test_a_refused_key_answers_what_a_broken_server_does(
    fake: FakeHilos, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies: list[bytes] = []
    async with serving_wired(fake, monkeypatch) as (url, _):
        for fault in (Fault.status(401), Fault.status(403), Fault.status(500)):
            fake.faults[:] = [fault]
            async with client.get(f"{url}/campaigns/{ONE}") as reply:
                bodies.append(await reply.read())
    assert len(set(bodies)) == 1


async def test_no_id_is_a_400_in_the_same_shape(
    fake: FakeHilos, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving_wired(fake, monkeypatch) as (url, _):
        async with client.get(f"{url}/campaigns/nonsense") as reply:
            problem = await reply.json(content_type="application/problem+json")
    assert reply.status == problem["status"] == 400
    assert problem["execution_id"] == "nonsense"
    assert fake.requests == 0


async def test_who_comes_in_the_pause_hears_how_long_it_lasts(
    fake: FakeHilos, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.faults.append(Fault.status(429, retry_after=90))
    async with serving_wired(fake, monkeypatch) as (url, _):
        for id in (ONE, TWO):  # the second is not even sent: its error has no cause
            async with client.get(f"{url}/campaigns/{id}") as reply:
                assert reply.status == 503
                assert 60 <= int(reply.headers["Retry-After"]) <= 120
    assert fake.requests == 1


async def test_a_closed_session_is_a_503(
    fake: FakeHilos, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving_wired(fake, monkeypatch) as (url, app):
        await app.state.hilos_sessions["factory"].aclose()
        async with client.get(f"{url}/campaigns/{ONE}") as reply:
            assert reply.status == 503
            assert reply.headers["Retry-After"] == "1"


# --- handlers


def app_of(fake: FakeHilos, **named: FakeHilos) -> FastAPI:
    others = {
        name: (lambda other=other: other.session(retry=QUICKLY)) for name, other in named.items()
    }
    app = FastAPI(lifespan=hilos_lifespan(lambda: fake.session(retry=QUICKLY), **others))
    install_exception_handlers(app)
    return app


async def test_a_group_of_our_errors_is_one_problem_and_a_mixed_one_is_none(
    fake: FakeHilos, client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_of(fake)
    fake.remove(ONE)
    fake.remove(TWO)

    @app.get("/gone")
    async def gone(hilos: HilosDep) -> None:
        (await hilos.gather_executions([ONE, TWO])).raise_for_errors()

    @app.get("/one")
    async def one(hilos: HilosDep) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(hilos.get_execution(ONE))

    @app.get("/different")
    async def different(hilos: HilosDep) -> None:
        (await hilos.gather_executions([ONE, "nonsense"])).raise_for_errors()

    @app.get("/mixed")
    async def mixed(hilos: HilosDep) -> None:
        raise ExceptionGroup("mixed", [NotFoundError("gone", status=404), KeyError("mine")])

    async with serving(app) as url:
        answers: dict[str, tuple[int, str | None]] = {}
        for path in ("gone", "one", "different"):
            async with client.get(f"{url}/{path}") as reply:
                problem = await reply.json(content_type="application/problem+json")
                answers[path] = problem["status"], problem["execution_id"]
        async with client.get(f"{url}/mixed") as reply:
            assert reply.status == 500
    assert answers == {"gone": (404, None), "one": (404, ONE), "different": (502, None)}
    assert "KeyError" in caplog.text


async def test_a_handler_of_your_own_goes_first(
    fake: FakeHilos, client: aiohttp.ClientSession
) -> None:
    app = app_of(fake)

    @app.exception_handler(NotFoundError)
    async def mine(request: Request, error: HilosError) -> JSONResponse:
        problem = problem_for(request, error)
        return JSONResponse({"error": problem.title}, problem.status)

    @app.get("/{id}")
    async def one(id: str, hilos: HilosDep) -> FlowExecution:
        return await hilos.get_execution(id)

    fake.remove(ONE)
    async with serving(app) as url:
        async with client.get(f"{url}/{ONE}") as reply:
            assert (reply.status, await reply.json()) == (404, {"error": "Not Found"})
        async with client.get(f"{url}/nonsense") as reply:
            assert reply.content_type == "application/problem+json"


async def test_a_web_socket_gets_the_session_and_is_closed_with_a_code(
    fake: FakeHilos, client: aiohttp.ClientSession
) -> None:
    app = app_of(fake)

    @app.websocket("/live")
    async def live(socket: WebSocket, hilos: HilosDep) -> None:
        await socket.accept()
        while True:
            execution = await hilos.get_execution(await socket.receive_text())
            await socket.send_bytes(execution.to_json())

    fake.faults.append(Fault.status(429, retry_after=1000, ids=[TWO]))
    async with serving(app) as url:
        for id, code, reason in (
            ("nonsense", 1011, "Bad Request"),
            (TWO, 1013, "Service Unavailable"),
        ):
            async with client.ws_connect(f"{url}/live") as socket:
                await socket.send_str(ONE)
                assert FlowExecution.from_json(await socket.receive_bytes()).id is not None
                await socket.send_str(id)
                closing = await socket.receive()
                assert (closing.type, closing.data, closing.extra) == (
                    aiohttp.WSMsgType.CLOSE,
                    code,
                    reason,
                )


async def test_a_web_socket_whose_client_has_left_is_no_error_of_the_app(
    fake: FakeHilos, client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    app, over = app_of(fake), asyncio.Event()
    fake.faults.append(Fault.status(404, ids=[TWO]))

    @app.websocket("/live")
    async def live(socket: WebSocket, hilos: HilosDep) -> None:
        await socket.accept()
        try:
            await socket.receive_text()
        except WebSocketDisconnect:
            await hilos.get_execution(TWO)
        finally:
            over.set()

    async with serving(app) as url:
        async with client.ws_connect(f"{url}/live"):
            pass
        await over.wait()
    assert "Traceback" not in caplog.text


async def test_what_a_stranger_wrote_for_an_id_is_not_in_the_log(
    fake: FakeHilos, client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_of(fake)
    fake.remove(TWO)

    @app.get("/all")
    async def everything(hilos: HilosDep) -> None:
        (await hilos.gather_executions([TWO, "x\n1 forged ana@empresa.example"])).raise_for_errors()

    async with serving(app) as url, client.get(f"{url}/all") as reply:
        assert reply.status == 502
    assert "forged" not in caplog.text
    assert "(no id)" in caplog.text


# --- the session


async def test_two_accounts_in_one_app(fake: FakeHilos, client: aiohttp.ClientSession) -> None:
    async with FakeHilos(token="another") as archive:
        app = app_of(fake, archive=archive)

        @app.get("/both")
        async def both(hilos: HilosDep, archive: ArchiveDep) -> list[FlowExecution]:
            return [await hilos.get_execution(ONE), await archive.get_execution(ONE)]

        async with serving(app) as url, client.get(f"{url}/both") as reply:
            assert len(await reply.json()) == 2
        assert fake.requests == archive.requests == 1


async def test_the_pause_of_another_account_is_not_this_requests(
    fake: FakeHilos, client: aiohttp.ClientSession
) -> None:
    fake.faults.append(Fault.status(429, retry_after=90))
    async with FakeHilos(faults=[Fault.delay(60)]) as archive:
        app = FastAPI(
            lifespan=hilos_lifespan(fake.session, archive=lambda: archive.session(timeout=0.05))
        )
        install_exception_handlers(app)

        @app.get("/paused")
        async def paused(hilos: HilosDep) -> FlowExecution:
            return await hilos.get_execution(ONE)

        @app.get("/slow")
        async def slow(archive: ArchiveDep) -> FlowExecution:
            return await archive.get_execution(ONE)

        async with serving(app) as url:
            async with client.get(f"{url}/paused") as reply:
                assert reply.status == 503
            async with client.get(f"{url}/slow") as reply:
                assert reply.status == 504


@pytest.mark.parametrize("yields", [False, True])
async def test_it_works_within_a_lifespan_of_your_own(
    yields: bool, fake: FakeHilos, client: aiohttp.ClientSession
) -> None:
    """Your own state survives; a mounted app finds the session if the state is passed on."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[dict[str, Any], None]:
        async with hilos_lifespan(fake.session)(app) as state:
            yield {"db": "mine", **(state if yields else {})}

    app, sub = FastAPI(lifespan=lifespan), FastAPI()
    app.mount("/sub", sub)

    @sub.get("/one")
    @app.get("/one")
    async def one(request: Request, hilos: HilosDep) -> str:
        return f"{request.state.db} {(await hilos.get_execution(ONE)).id}"

    async with serving(app) as url:
        async with client.get(f"{url}/one") as reply:
            assert await reply.json() == f"mine {ONE}"
        async with client.get(f"{url}/sub/one") as reply:
            assert reply.status == (200 if yields else 500)


async def test_a_lifespan_within_another_adds_its_sessions_and_takes_them_away(
    fake: FakeHilos,
) -> None:
    app = FastAPI()
    async with hilos_lifespan(fake.session, archive=fake.session)(app) as outer:
        async with hilos_lifespan(fake.session)(app) as inner:
            assert _names(inner) == _names(outer)
            assert _names(app.state._state) == _names(outer)
        assert _names(app.state._state) == _names(outer)
    assert _names(app.state._state) == []


def _names(state: dict[str, Any]) -> list[str]:
    return sorted(state["hilos_sessions"])


async def test_a_mounted_app_uses_the_session_of_the_app_around_it(
    fake: FakeHilos, client: aiohttp.ClientSession
) -> None:
    app, sub = app_of(fake), FastAPI()
    install_exception_handlers(sub)
    app.mount("/sub", sub)

    @sub.get("/{id}")
    async def one(id: str, hilos: HilosDep) -> FlowExecution:
        return await hilos.get_execution(id)

    async with serving(app) as url:
        async with client.get(f"{url}/sub/{ONE}") as reply:
            assert (await reply.json())["id"] == ONE
        async with client.get(f"{url}/sub/nonsense") as reply:
            assert reply.status == 400


async def test_the_session_closes_with_the_app(
    fake: FakeHilos, client: aiohttp.ClientSession
) -> None:
    app = app_of(fake)

    @app.get("/one")
    async def one(hilos: HilosDep) -> FlowExecution:
        return await hilos.get_execution(ONE)

    async with serving(app) as url, client.get(f"{url}/one") as reply:
        assert reply.status == 200
        session = app.state.hilos_sessions["factory"]
        assert repr(session).endswith("open>")
    assert repr(session).endswith("closed>")
    assert fake.open_connections == 0


async def test_a_session_that_cannot_be_made_ends_the_start_of_the_app() -> None:
    app = FastAPI()
    with pytest.raises(ValueError, match="HILOS_API_KEY"):
        async with hilos_lifespan()(app):
            pass


async def test_missing_wiring_says_what_to_add(
    fake: FakeHilos, client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    bare, unnamed = FastAPI(), app_of(fake)

    @bare.get("/one")
    async def one(hilos: HilosDep) -> None: ...

    @unnamed.get("/one")
    async def other(archive: ArchiveDep) -> None: ...

    for app, advice in (
        (bare, "add FastAPI(lifespan=hilos_lifespan())"),
        (unnamed, "add hilos_lifespan(..., archive=...)"),
    ):
        async with serving(app) as url, client.get(f"{url}/one") as reply:
            assert reply.status == 500
        assert advice in caplog.text


async def test_a_dependency_override_replaces_the_session(
    fake: FakeHilos, client: aiohttp.ClientSession
) -> None:
    """Without a lifespan, and for a named session too."""
    app = FastAPI()

    @app.get("/both")
    async def both(hilos: HilosDep, archive: ArchiveDep) -> list[FlowExecution]:
        return [await hilos.get_execution(ONE), await archive.get_execution(TWO)]

    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(fake.session())
        app.dependency_overrides[hilos_session] = lambda: session
        app.dependency_overrides[session_named("archive")] = lambda: session
        url = await stack.enter_async_context(serving(app))
        async with client.get(f"{url}/both") as reply:
            assert [e["id"] for e in await reply.json()] == [ONE, TWO]


async def test_a_background_task_uses_the_session_after_the_answer(
    fake: FakeHilos, client: aiohttp.ClientSession
) -> None:
    app = app_of(fake)
    done = asyncio.Event()
    answered = asyncio.Event()

    async def refresh(hilos: HilosSession) -> None:
        await answered.wait()
        batch = await hilos.gather_executions([ONE, TWO])
        if batch:
            done.set()

    @app.post("/refresh", status_code=202)
    async def start(hilos: HilosDep, tasks: BackgroundTasks) -> None:
        tasks.add_task(refresh, hilos)

    async with serving(app) as url, client.post(f"{url}/refresh") as reply:
        assert reply.status == 202
        answered.set()
        await asyncio.wait_for(done.wait(), 60)


# --- its names, and without the extra


def test_every_name_is_in_the_reference_and_has_a_docstring_there() -> None:
    page = (ROOT / "docs" / "reference" / "fastapi.md").read_text(encoding="utf-8")
    described = re.findall(r"^::: hilos_async\.fastapi\.(\w+)$", page, re.M)
    assert sorted(described) == sorted(hilos_async.fastapi.__all__)
    for name in set(described) - {"HilosDep", "problem_responses"}:  # no objects with a docstring
        assert (getattr(hilos_async.fastapi, name).__doc__ or "").strip()


def test_without_fastapi_the_import_says_what_to_install() -> None:
    script = "import sys; sys.modules['fastapi'] = None; import hilos_async.fastapi"
    ran = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert "ImportError: hilos_async.fastapi needs FastAPI" in ran.stderr
    assert f"install the extra, {install_command('fastapi')}" in ran.stderr


async def test_a_dictconfig_of_the_application_does_not_silence_it() -> None:
    """HILOS_LOG shows what an answer hides, also where logging was configured after the imports."""
    code = """if True:
        import logging.config, sys
        from fastapi import FastAPI
        from hilos_async import HilosSession, ServerError
        from hilos_async import fastapi
        logging.config.dictConfig({"version": 1})
        HilosSession("key")
        error = ServerError("x", status=500)
        fastapi._tell(error, fastapi.HilosProblem.of(error))
    """
    ended = await anyio.run_process(
        [sys.executable, "-W", "error", "-c", code], env={**os.environ, "HILOS_LOG": "info"}
    )
    assert b"WARNING hilos_async.fastapi: flow-execution/(no id): answered 502" in ended.stderr
