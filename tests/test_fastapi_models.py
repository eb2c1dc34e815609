"""Models as return types, as bodies and in pydantic: what is written, described and refused."""

from __future__ import annotations

import asyncio
import importlib
import json
import math
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import aiohttp
import pytest
from fastapi import Body, FastAPI
from fastapi.encoders import jsonable_encoder
from openapi_spec_validator import validate
from pydantic import BaseModel, TypeAdapter, ValidationError, create_model

from hilos_async import (
    Change,
    ExecutionBatch,
    FlowExecution,
    FlowExecutionStatus,
    Lookup,
    NotFoundError,
    Progress,
    RateLimitError,
    Stats,
    Summary,
)
from hilos_async._api.model import to_json
from hilos_async.fastapi import (
    HilosDep,
    HilosProblem,
    ModelResponse,
    NDJSONResponse,
    hilos_lifespan,
    install_exception_handlers,
    problem_responses,
)
from hilos_async.testing import FakeHilos
from tests.asgi_server import environment, serving, wired

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

ONE = "a1b2c3d4-0000-4000-8000-000000000001"
TWO = "a1b2c3d4-0000-4000-8000-000000000002"
NEW_WORD = "THROTTLED_BY_META"


def app_of(fake: FakeHilos) -> FastAPI:
    """Everything that can be answered, and a body."""
    app = FastAPI(lifespan=hilos_lifespan(fake.session), responses=problem_responses)
    install_exception_handlers(app)

    @app.get("/executions/{id}")
    async def execution(id: str, hilos: HilosDep) -> FlowExecution:
        return await hilos.get_execution(id)

    @app.get("/fast/{id}", response_model=FlowExecution)
    async def fast(id: str, hilos: HilosDep) -> ModelResponse:
        return ModelResponse(await hilos.get_execution(id))

    @app.get("/list")
    async def both(hilos: HilosDep) -> list[FlowExecution]:
        return [await hilos.get_execution(id) for id in (ONE, TWO)]

    @app.get("/batch")
    async def batch(hilos: HilosDep) -> ExecutionBatch:
        return await hilos.gather_executions([ONE, TWO, "nonsense"])

    @app.get("/summary")
    async def summary(hilos: HilosDep) -> Summary:
        return (await hilos.gather_executions([ONE, TWO])).summary()

    @app.get("/stats")
    async def stats(hilos: HilosDep) -> Stats:
        return hilos.stats

    @app.get("/lookup")
    async def lookup(hilos: HilosDep) -> Lookup:
        return Lookup.of(ONE, await hilos.get_execution(ONE))

    @app.get("/change")
    async def change(hilos: HilosDep) -> Change:
        return Change(id=ONE, error=NotFoundError("x", status=404), ended=True)

    @app.get("/progress")
    async def progress() -> Progress:
        return Progress(done=1, failed=0, total=None, elapsed=0.5)

    @app.post("/executions")
    async def post(execution: Annotated[FlowExecution, Body()]) -> str:
        return f"{execution.status} {execution.num_contacts}"

    return app


# --- the schema


async def test_the_schema_is_valid_and_names_each_model(fake: FakeHilos) -> None:
    schema = app_of(fake).openapi()
    validate(schema)
    models = {"FlowExecution", "Flow", "FlowVersion", "Channel", "User", "ContactFilter"}
    both = {f"{name}-{mode}" for name in models for mode in ("Input", "Output")}
    answers = {"ExecutionBatch", "Lookup", "Change", "Progress", "Summary", "SummaryRow", "Stats"}
    theirs = {"HTTPValidationError", "ValidationError"}
    assert schema["components"]["schemas"].keys() == (
        both | answers | theirs | {"RateLimit", "HilosProblem"}
    )


async def test_a_model_of_the_apps_own_may_have_the_name_of_the_problem(fake: FakeHilos) -> None:
    app = app_of(fake)
    own = create_model("HilosProblem", words=(str, ...))

    @app.get("/own", response_model=own)
    async def answer() -> BaseModel:
        return own(words="mine")

    schema = app.openapi()
    validate(schema)
    components = schema["components"]["schemas"]
    responses = schema["paths"]["/own"]["get"]["responses"]
    for status, words in (("200", {"words"}), ("404", set(HilosProblem.__struct_fields__))):
        (content,) = responses[status]["content"].values()
        name = content["schema"]["$ref"].removeprefix("#/components/schemas/")
        assert set(components[name]["properties"]) == words
    assert "application/problem+json" in responses["404"]["content"]


async def test_what_is_answered_is_described_as_it_is() -> None:
    """All fields there, counters never null, words open, ids and dates with their formats."""
    schema = wired().openapi()
    validate(schema)
    components = schema["components"]["schemas"]
    execution = components["FlowExecution"]
    fields: dict[str, Any] = execution["properties"]
    assert set(execution["required"]) == set(fields) == set(FlowExecution.__struct_encode_fields__)
    assert fields["num_contacts"] == {"type": "integer"}
    assert fields["flow"] == {"$ref": "#/components/schemas/Flow"}
    assert {"$ref": "#/components/schemas/User"} in fields["created_by"]["anyOf"]
    assert {"type": "string", "format": "uuid"} in fields["id"]["anyOf"]
    assert {"type": "string", "format": "date-time"} in fields["created_on"]["anyOf"]
    assert fields["flow_execution_variables"].keys() <= {"title"}  # any JSON
    status = fields["status"]
    assert status["type"] == "string"
    assert "enum" not in status
    assert status["examples"] == [word.value for word in FlowExecutionStatus]
    batch = components["ExecutionBatch"]["properties"]
    assert batch["executions"]["additionalProperties"] == {
        "$ref": "#/components/schemas/FlowExecution"
    }
    assert batch["errors"]["additionalProperties"] == {"$ref": "#/components/schemas/HilosProblem"}


async def test_every_problem_is_in_the_schema_and_the_422_stays_fastapis() -> None:
    responses = wired().openapi()["paths"]["/campaigns/{id}"]["get"]["responses"]
    assert responses.keys() == {"200", "400", "404", "422", "502", "503", "504"}
    for status in ("400", "404", "502", "503", "504"):
        described = responses[status]["content"]["application/problem+json"]["schema"]
        assert described == {"$ref": "#/components/schemas/HilosProblem"}
    assert "Retry-After" in responses["503"]["headers"]


def test_a_stream_is_described_with_its_own_content_type() -> None:
    app = FastAPI(responses=problem_responses)

    @app.get("/lines", response_class=NDJSONResponse)
    async def lines(hilos: HilosDep) -> NDJSONResponse:
        return NDJSONResponse(hilos.stream_executions([]))

    schema = app.openapi()
    validate(schema)
    assert list(schema["paths"]["/lines"]["get"]["responses"]["200"]["content"]) == [
        "application/x-ndjson"
    ]


@pytest.mark.parametrize("native", [False, True])
async def test_a_client_generated_from_the_schema_reads_the_answers(
    native: bool, client: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the app on the page: an execution with a word nobody knows, a batch, a problem."""
    pytest.importorskip("openapi_python_client")
    async with FakeHilos(native=native) as fake:
        for name, value in environment(fake).items():
            monkeypatch.setenv(name, value)
        fake.put(ONE, status=NEW_WORD)
        fake.remove(TWO)
        async with serving(wired()) as url:
            async with client.get(f"{url}/openapi.json") as reply:
                (tmp_path / "openapi.json").write_bytes(await reply.read())
            await asyncio.to_thread(_generate, tmp_path)
            monkeypatch.syspath_prepend(tmp_path)
            generated = importlib.import_module("generated.client")
            api = importlib.import_module("generated.api.default.campaign_campaigns_id_get")
            many = importlib.import_module("generated.api.default.campaigns_campaigns_get")
            async with generated.Client(base_url=url) as theirs:
                one = await api.asyncio(ONE, client=theirs)
                gone = await api.asyncio_detailed(TWO, client=theirs)
                batch = await many.asyncio(client=theirs, id=[ONE, TWO, "nonsense"])
        document = fake.document(ONE)
    for name in [name for name in sys.modules if name.split(".")[0] == "generated"]:
        del sys.modules[name]
    assert one.status == NEW_WORD
    assert str(one.id) == ONE
    assert one.num_contacts == document["num_contacts"]
    assert one.flow.name == FlowExecution.from_json(json.dumps(document)).flow.name
    assert (gone.status_code, gone.parsed.status) == (404, 404)
    assert batch.executions[ONE] == one
    assert batch.errors[TWO].status == 404
    assert batch.errors["nonsense"].title == "Bad Request"


def _generate(directory: Path) -> None:
    (directory / "config.yml").write_text("post_hooks: []\n")
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"]
    command += ["--path", "openapi.json", "--output-path", "generated", "--config", "config.yml"]
    ran = subprocess.run(
        [*command, "--fail-on-warning"], cwd=directory, check=False, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


# --- answers


async def test_every_answer_is_what_its_to_json_writes(
    fake: FakeHilos, client: aiohttp.ClientSession
) -> None:
    async with serving(app_of(fake)) as url, fake.session() as hilos:
        bodies: dict[str, Any] = {}
        for path in ("list", "batch", "summary", "lookup", "change", "progress", "stats"):
            async with client.get(f"{url}/{path}") as reply:
                assert reply.status == 200
                bodies[path] = await reply.json()
        one, two = await hilos.get_execution(ONE), await hilos.get_execution(TWO)
        batch = await hilos.gather_executions([ONE, TWO, "nonsense"])
    assert bodies["list"] == [json.loads(one.to_json()), json.loads(two.to_json())]
    assert bodies["batch"] == json.loads(batch.to_json())
    assert bodies["summary"] == json.loads(batch.summary().to_json())
    assert bodies["lookup"] == {"id": ONE, "execution": json.loads(one.to_json()), "error": None}
    assert bodies["change"]["error"]["status"] == 404
    assert bodies["progress"] == {"done": 1, "failed": 0, "total": None, "elapsed": 0.5}
    assert bodies["stats"].keys() == set(Stats.__struct_fields__)


@pytest.mark.parametrize(
    ("option", "left"),
    [
        ({"response_model_include": {"id", "status"}}, {"id", "status"}),
        ({"response_model_exclude": {"created_by", "flow", "flow_version"}}, None),
        ({"response_model_exclude_none": True}, None),
    ],
    ids=["include", "exclude", "exclude_none"],
)
async def test_what_an_endpoint_leaves_out_is_left_out(
    option: dict[str, Any], left: set[str] | None, client: aiohttp.ClientSession
) -> None:
    """A person's address that was to stay inside stays inside."""
    execution = FlowExecution.from_json(json.dumps(FakeHilos().document(ONE)))
    app = FastAPI()

    @app.get("/one", response_model=FlowExecution, **option)
    async def one() -> object:
        return execution

    async with serving(app) as url, client.get(f"{url}/one") as reply:
        answered = await reply.json()
    everything = execution.to_dict()
    gone = option.get("response_model_exclude", set())
    if "response_model_exclude_none" in option:
        gone = {name for name, value in everything.items() if value is None}
        assert gone
    assert answered.keys() == (left or everything.keys() - gone)
    for name in answered.keys() - {"flow", "flow_version", "created_by", "status_triggered_by"}:
        if name != "contact_filters":
            assert answered[name] == everything[name]


async def test_the_fast_answer_is_the_same_one(
    fake: FakeHilos, client: aiohttp.ClientSession
) -> None:
    async with serving(app_of(fake)) as url:
        async with client.get(f"{url}/executions/{ONE}") as slow:
            async with client.get(f"{url}/fast/{ONE}") as fast:
                assert await fast.json() == await slow.json()
                assert fast.content_type == slow.content_type


def test_a_model_response_takes_batches_lists_and_dictionaries() -> None:
    progress = Progress(done=1, failed=0, total=None, elapsed=0.5)
    written = json.loads(bytes(ModelResponse({"all": [progress], "none": ()}).body))
    assert written == {"all": [json.loads(progress.to_json())], "none": []}


# --- bodies


async def test_a_body_is_read_as_the_apis_own_document(
    fake: FakeHilos, client: aiohttp.ClientSession
) -> None:
    document = fake.document(ONE) | {"status": NEW_WORD, "num_contacts": None, "unknown": 1}
    async with serving(app_of(fake)) as url:
        async with client.post(f"{url}/executions", json=document) as reply:
            assert (reply.status, await reply.json()) == (200, f"{NEW_WORD} 0")


def _set(name: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda document: document.update({name: value})


WRONG = [
    # how a document is spoiled, where FastAPI says so, and as what
    (lambda document: document.pop("status"), ["status"], "missing"),
    (lambda document: document["flow"].pop("name"), ["flow", "name"], "missing"),
    (lambda document: document["flow"].update(id=5), ["flow", "id"], "hilos_document"),
    (_set("id", "x"), ["id"], "hilos_document"),
    (_set("created_on", "2026-03-01T10:00:00"), ["created_on"], "hilos_document"),
    (_set("contact_filters", [{"field": 1}]), ["contact_filters", 0, "field"], "hilos_document"),
]


@pytest.mark.parametrize(("spoil", "loc", "kind"), WRONG, ids=[str(row[1]) for row in WRONG])
async def test_a_wrong_body_is_a_422_that_says_where(
    spoil: Callable[[dict[str, Any]], object],
    loc: list[str | int],
    kind: str,
    fake: FakeHilos,
    client: aiohttp.ClientSession,
) -> None:
    document = fake.document(ONE)
    spoil(document)
    async with serving(app_of(fake)) as url:
        async with client.post(f"{url}/executions", json=document) as reply:
            [error] = (await reply.json())["detail"]
    assert reply.status == 422
    assert (error["loc"], error["type"]) == (["body", *loc], kind)
    assert "$" not in error["msg"]


# --- inside pydantic's own models


def test_a_wait_without_end_is_told_as_a_week() -> None:
    endless = RateLimitError("no", status=429, retry_after=math.inf)
    assert HilosProblem.of(endless).retry_after == 604_800


class Report(BaseModel):
    campaigns: list[FlowExecution]
    status: FlowExecutionStatus


def test_a_pydantic_model_holds_ours() -> None:
    document = FakeHilos().document(ONE, at=0)
    report = Report.model_validate({"campaigns": [document], "status": NEW_WORD})
    assert report.campaigns[0] == FlowExecution.from_json(json.dumps(document))
    assert not report.status.is_known
    assert Report.model_validate_json(report.model_dump_json()) == report
    assert Report.model_validate(report.model_dump()) == report
    with pytest.raises(ValidationError) as caught:
        Report.model_validate({"campaigns": [document, {}, 3], "status": 5})
    assert [error["loc"] for error in caught.value.errors()] == [
        ("campaigns", 1, "status"),
        ("campaigns", 2),
        ("status",),
    ]


@pytest.mark.parametrize("made", [ExecutionBatch, Lookup, Change])
def test_what_holds_errors_is_answered_and_never_read(made: type[object]) -> None:
    with pytest.raises(ValidationError, match=f"{made.__name__} is answered, never read"):
        TypeAdapter(made).validate_python({"id": ONE})


def test_pydantic_is_not_imported_by_the_library() -> None:
    script = "import sys, hilos_async; print({'pydantic', 'fastapi'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "set()"


# --- where no annotation tells what it is


class Envelope(BaseModel):
    data: Any


async def test_a_field_of_any_type_writes_a_model_as_it_is_written_elsewhere(
    fake: FakeHilos,
) -> None:
    async with fake.session() as hilos:
        batch = await hilos.gather_executions([ONE, TWO, "nonsense"])
    execution = batch.executions[UUID(ONE)]
    for value in (
        execution,
        batch,
        batch.summary(),
        Lookup.of("x", NotFoundError("n", status=404)),
    ):
        for data in (value, [value], {"deep": {"er": (value,)}}):
            envelope = Envelope(data=data)
            plain = json.loads(to_json(envelope.data))
            assert json.loads(envelope.model_dump_json())["data"] == plain
            assert envelope.model_dump(mode="json")["data"] == plain
            assert jsonable_encoder(envelope)["data"] == plain
            assert jsonable_encoder(json.loads(value.to_json())) == json.loads(value.to_json())


def test_without_pydantic_nothing_of_it_is_imported() -> None:
    code = "import sys, hilos_async; print(*{'pydantic', 'pydantic_core'} & sys.modules.keys())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
