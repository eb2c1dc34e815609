"""Lists, contacts and runs in a FastAPI app: described, answered, and read as the API writes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import aiohttp
import pytest
from fastapi import FastAPI
from openapi_spec_validator import validate
from pydantic import TypeAdapter, ValidationError

from hilos_async import (
    Contact,
    ContactBatch,
    ExecutionBrief,
    ExecutionContact,
    NewContact,
    OutcomeUnknownError,
    Page,
)
from hilos_async.fastapi import (
    HilosDep,
    HilosProblem,
    hilos_lifespan,
    install_exception_handlers,
    problem_responses,
)
from hilos_async.testing import FakeHilos, Fault
from tests.asgi_server import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

ONE = UUID("a1b2c3d4-0000-4000-8000-000000000001")


@pytest.fixture
async def fake() -> AsyncIterator[FakeHilos]:
    async with FakeHilos(executions=95) as server:
        server.put(ONE, num_contacts=50)
        yield server


def app_of(fake: FakeHilos) -> FastAPI:
    app = FastAPI(lifespan=hilos_lifespan(fake.session), responses=problem_responses)
    install_exception_handlers(app)

    @app.get("/campaigns")
    async def campaigns(hilos: HilosDep, page: int = 1) -> Page[ExecutionBrief]:
        return await anext(hilos.list_executions().pages(page))

    @app.get("/campaigns/{id}/contacts")
    async def contacts(id: UUID, hilos: HilosDep) -> Page[ExecutionContact]:
        return await anext(hilos.list_execution_contacts(execution=id).pages())

    @app.get("/contacts/{id}")
    async def contact(id: UUID, hilos: HilosDep) -> ExecutionContact:
        return await hilos.get_execution_contact(id)

    @app.get("/contacts")
    async def batch(hilos: HilosDep) -> ContactBatch:
        return await hilos.gather_execution_contacts([ONE, "x"])

    @app.post("/flows/{id}/run", status_code=201)
    async def run(id: UUID, people: list[NewContact], hilos: HilosDep) -> ExecutionBrief:
        return await hilos.run_flow(id, people)

    return app


async def test_the_schema_is_valid_and_names_a_page_by_what_is_on_it(fake: FakeHilos) -> None:
    schema = app_of(fake).openapi()
    validate(schema)
    names = schema["components"]["schemas"]
    assert {"Page_ExecutionBrief_", "Page_ExecutionContact_", "NewContact"} <= names.keys()
    rows = names["Page_ExecutionContact_"]["properties"]["results"]
    assert rows["items"] == {"$ref": "#/components/schemas/ExecutionContact"}
    assert "reason" not in names["ExecutionContact"]["properties"]
    assert names["NewContact"]["required"] == ["phone"]


async def test_lists_and_contacts_are_answered(fake: FakeHilos) -> None:
    async with serving(app_of(fake)) as url, aiohttp.ClientSession() as client:

        async def get(path: str) -> Any:
            async with client.get(f"{url}{path}") as response:
                return response.status, await response.json()

        status, page = await get("/campaigns?page=3")
        assert (status, page["number"], page["count"], page["has_next"]) == (200, 3, 95, False)
        assert len(page["results"]) == 15
        _, people = await get(f"/campaigns/{ONE}/contacts")
        row = people["results"][0]
        assert row["contact"]["phone"].startswith("+52155")
        status, whole = await get(f"/contacts/{row['id']}")
        assert (status, whole["flow_execution"]["id"]) == (200, str(ONE))
        _, batch = await get("/contacts")
        assert batch["errors"]["x"]["status"] == 400
        fake.remove(row["id"])
        status, problem = await get(f"/contacts/{row['id']}")
        assert (status, problem["detail"]) == (404, "Hilos has nothing under this id.")


async def test_a_run_is_read_checked_and_answered(fake: FakeHilos) -> None:
    flow = fake.flows[0]
    async with serving(app_of(fake)) as url, aiohttp.ClientSession() as client:

        async def post(*people: object) -> Any:
            async with client.post(f"{url}/flows/{flow}/run", json=people) as response:
                return response.status, await response.json()

        status, brief = await post({"phone": "+5215512345678", "meta": {"plan": "oro"}})
        assert (status, brief["num_contacts"], fake.runs_created) == (201, 1, 1)
        status, refused = await post({"phone": "5512345678"})
        assert status == 422
        assert refused["detail"][0]["loc"] == ["body", 0, "phone"]
        fake.faults = [Fault.reset("body")]
        status, problem = await post({"phone": "+5215512345678"})
        assert (status, problem["retry_after"]) == (502, None)
        assert "may have started" in problem["detail"]
        assert fake.runs_created == 2


async def test_documents_of_both_names_are_read(fake: FakeHilos) -> None:
    person = Contact(id="7", phone="+5", source="x", last_updated_on=None)
    row = {"contact": json.loads(person.to_json()), "reason": "no answer"}
    read = TypeAdapter(ExecutionContact).validate_python(row)
    assert read.status_reason == "no answer"
    plain = TypeAdapter(ExecutionContact).dump_python(read, exclude_none=True)
    assert plain["status_reason"] == "no answer"
    assert "reason" not in plain
    page = TypeAdapter(Page[ExecutionContact])
    made = {"number": 1, "count": 1, "has_next": False, "results": [row]}
    assert page.validate_python(made).results == (read,)
    with pytest.raises(ValidationError):
        page.validate_python({**made, "results": [{"contact": 5}]})
    with pytest.raises(ValidationError):
        TypeAdapter(Page[int]).validate_python(made)


def test_an_unknown_outcome_is_no_invitation_to_try_again() -> None:
    error = OutcomeUnknownError.__new__(OutcomeUnknownError, "x")
    problem = HilosProblem.of(error)
    assert (problem.status, problem.retry_after) == (502, None)
