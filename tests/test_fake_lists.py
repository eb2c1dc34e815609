"""The fake's lists, contacts and runs, over the socket with a client that is not this library's."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilos_async.models import ExecutionBrief, ExecutionContact
from hilos_async.testing import FakeHilos, Fault
from hilos_async.testing._contract import run_errors

pytestmark = pytest.mark.anyio

both = pytest.mark.parametrize("native", [False, True], ids=["activecampaign", "native"])
PHONE = "+5215512345678"


class Asked:
    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.json: Any = json.loads(body)


async def ask(fake: FakeHilos, path: str, body: object = None, **query: object) -> Asked:
    headers = {"Authorization": f"Token {fake.token}"}
    given = {name: str(value) for name, value in query.items()}
    method = "GET" if body is None else "POST"
    async with aiohttp.ClientSession() as client:
        async with client.request(
            method, f"{fake.base_url}/{path}", headers=headers, params=given, json=body
        ) as response:
            return Asked(response.status, await response.read())


async def walk(fake: FakeHilos, path: str, **query: object) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    page = 1
    while True:
        got = (await ask(fake, path, page=page, **query)).json
        rows += got["results"]
        if got["next"] is None:
            assert got["count"] == len(rows)
            return rows
        page += 1


@both
async def test_the_list_of_executions_has_each_once_newest_first(native: bool) -> None:
    async with FakeHilos(native=native, executions=95) as fake:
        rows = await walk(fake, "flow-execution")
        assert len({row["id"] for row in rows}) == 95
        created = [row["created_on"] for row in rows]
        assert created == sorted(created, reverse=True)
        for row in rows[:5]:
            whole = fake.document(row["id"])
            assert row["num_contacts"] == whole["num_contacts"]
            assert ("flow_version" in row) is not native
            assert "flow" not in row
            ExecutionBrief.from_json(json.dumps(row))
        assert fake.violations == []


@both
async def test_pages_are_those_of_django_rest_framework(native: bool) -> None:
    async with FakeHilos(native=native, executions=95) as fake:
        first = (await ask(fake, "flow-execution", search="")).json
        assert (first["count"], len(first["results"]), first["previous"]) == (95, 40, None)
        assert first["next"] == f"{fake.base_url}/flow-execution?search=&page=2"
        second = (await ask(fake, "flow-execution", page=2)).json
        assert second["previous"] == f"{fake.base_url}/flow-execution"
        last = (await ask(fake, "flow-execution", page=3)).json
        assert (len(last["results"]), last["next"]) == (15, None)
        for page in (4, 0, -1, "x"):
            over = await ask(fake, "flow-execution", page=page)
            assert (over.status, over.json) == (404, {"detail": "Invalid page."})
        fake.next_host = "https://elsewhere.example"
        moved = (await ask(fake, "flow-execution")).json
        assert moved["next"] == "https://elsewhere.example/api/flow-execution?page=2"


async def test_an_empty_list_has_a_first_page() -> None:
    async with FakeHilos(executions=0) as fake:
        assert (await ask(fake, "flow-execution")).json["results"] == []


async def test_a_page_has_as_many_rows_as_asked_for_up_to_a_hundred() -> None:
    async with FakeHilos() as fake:
        for size, rows in [(7, 7), (100, 100), (5_000, 100), (0, 40), ("x", 40)]:
            got = (await ask(fake, "flow-execution-contact", page_size=size)).json
            assert len(got["results"]) == rows


@both
async def test_filters_let_through_what_they_name(native: bool) -> None:
    async with FakeHilos(native=native) as fake:
        rows = await walk(fake, "flow-execution")
        whole = fake.document(rows[0]["id"])
        flow: Any = whole["flow"]
        version: Any = whole["flow_version"]
        of_flow = await walk(fake, "flow-execution", flow=str(UUID(flow["id"])).upper())
        assert rows[0]["id"] in {row["id"] for row in of_flow}
        for row in of_flow:
            other: Any = fake.document(row["id"])["flow"]
            assert other["id"] == flow["id"]
        of_version = await walk(fake, "flow-execution", flow_version=version["id"])
        assert 0 < len(of_version) <= len(of_flow)
        name = "flow_execution__flow" if native else "flow"
        contacts = (await ask(fake, "flow-execution-contact", **{name: flow["id"]})).json
        assert contacts["count"] == sum(row["num_contacts"] for row in of_flow)
        refused = await ask(fake, "flow-execution", flow="x")
        assert (refused.status, refused.json) == (400, {"flow": ["Enter a valid UUID."]})
        assert fake.violations == ["flow-execution?flow= takes a value of kind uuid"]


@both
async def test_the_contacts_of_an_execution_agree_with_its_counters(native: bool) -> None:
    async with FakeHilos(native=native) as fake:
        for row in (await ask(fake, "flow-execution")).json["results"][:6]:
            contacts = await walk(
                fake, "flow-execution-contact", flow_execution=row["id"], page_size=100
            )
            assert len({contact["id"] for contact in contacts}) == row["num_contacts"]
            ended = Counter(contact["status"] for contact in contacts)
            for name in ("completed", "failed", "expired", "canceled", "running"):
                assert ended[name.upper()] == row[name]
            ExecutionContact.from_json(json.dumps(contacts[0]))
            assert ("reason" if native else "status_reason") in contacts[0]
            if len(contacts) > 2_000:
                break


@both
async def test_one_contact_is_asked_for_by_the_id_of_its_row(native: bool) -> None:
    async with FakeHilos(native=native) as fake:
        execution = (await ask(fake, "flow-execution")).json["results"][0]["id"]
        listed = await ask(fake, "flow-execution-contact", flow_execution=execution)
        row = listed.json["results"][3]
        whole = (await ask(fake, f"flow-execution-contact/{row['id']}")).json
        assert whole["contact"] == row["contact"]
        assert whole["flow_execution"]["id"] == execution
        assert ExecutionContact.from_json(json.dumps(whole)).execution_steps
        person = row["contact"]["id"]
        filtered = {"flow_execution": execution, "contact": person}
        assert [
            found["id"] for found in await walk(fake, "flow-execution-contact", **filtered)
        ] == [row["id"]]
        fake.remove(row["id"])
        gone = await ask(fake, f"flow-execution-contact/{row['id']}")
        assert gone.json == {"detail": "No FlowExecutionContact matches the given query."}
        assert await walk(fake, "flow-execution-contact", **filtered) == []


async def test_active_contacts_are_those_for_whom_it_is_not_over() -> None:
    async with FakeHilos() as fake:
        rows = (await ask(fake, "flow-execution")).json["results"]
        running = next(row for row in rows if row["status"] == "RUNNING")["id"]
        fake.put(running, num_contacts=30, completed=10, failed=0, expired=0, canceled=0, running=5)
        for active, number in [("true", 20), ("false", 10), ("x", 30)]:
            got = await walk(
                fake, "flow-execution-contact", flow_execution=running, is_active=active
            )
            assert len(got) == number


@both
async def test_a_run_makes_an_execution_of_these_contacts(native: bool) -> None:
    async with FakeHilos(native=native) as fake:
        flow = fake.flows[3]
        contacts = [{"phone": PHONE, "first_name": "Ana", "meta": {"plan": "oro"}}]
        body = {"execute_for": "LIST", "has_priority": True, "contact_list": contacts}
        made = await ask(fake, f"flow/{flow}/run", body)
        assert (made.status, made.json["num_contacts"], made.json["source"]) == (201, 1, "API")
        assert made.json["contact_list"] == contacts
        ExecutionBrief.from_json(json.dumps(made.json))
        assert fake.runs_created == 1
        listed = (await ask(fake, "flow-execution", flow=flow)).json["results"][0]
        assert listed["id"] == made.json["id"]
        whole: Any = (await ask(fake, f"flow-execution/{listed['id']}")).json
        assert whole["flow"]["id"] == str(flow)
        [row] = await walk(fake, "flow-execution-contact", flow_execution=listed["id"])
        assert (row["contact"]["phone"], row["contact"]["first_name"]) == (PHONE, "Ana")
        assert row["contact"]["meta"] == {"plan": "oro"}
        assert fake.violations == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"execute_for": "ALL"}, {"execute_for": ['"ALL" is not a valid choice.']}),
        ({"has_priority": "no"}, {"has_priority": ["Must be a valid boolean."]}),
        (
            {"contact_list": "x"},
            {"contact_list": ['Expected a list of items but got type "str".']},
        ),
        (
            {"contact_list": [{}, {"first_name": "x" * 101, "email": "x"}]},
            {
                "contact_list": [
                    {},
                    {
                        "first_name": ["Ensure this field has no more than 100 characters."],
                        "email": ["Enter a valid email address."],
                    },
                ]
            },
        ),
    ],
)
async def test_a_run_that_breaks_the_contract_is_refused_field_by_field(
    change: dict[str, object], said: object
) -> None:
    async with FakeHilos() as fake:
        body = {"execute_for": "LIST", "contact_list": [{"phone": PHONE}], **change}
        refused = await ask(fake, f"flow/{fake.flows[0]}/run", body)
        assert (refused.status, refused.json) == (400, said)
        assert fake.runs_created == 0
        assert fake.violations


async def test_what_the_contract_does_not_know_is_noted() -> None:
    async with FakeHilos() as fake:
        await ask(fake, "flow-execution", page_size=3)
        body = {"execute_for": "LIST", "contact_list": [{"phone": PHONE, "nick": "x"}]}
        assert (await ask(fake, f"flow/{fake.flows[0]}/run", body)).status == 201
        assert fake.violations == [
            "flow-execution has no parameter 'page_size'",
            "run.contact_list[0] has no field 'nick'",
        ]


async def test_a_run_of_an_unknown_flow_and_other_methods_are_refused() -> None:
    async with FakeHilos() as fake:
        body = {"execute_for": "LIST", "contact_list": []}
        unknown = await ask(fake, f"flow/{UUID(int=1)}/run", body)
        assert unknown.json == {"detail": "No Flow matches the given query."}
        assert (await ask(fake, f"flow/{fake.flows[0]}/run")).status == 405
        assert (await ask(fake, "flow-execution", body)).status == 405
        assert fake.runs_created == 0


@given(st.binary(max_size=80), st.sampled_from(["application/json", "text/plain"]))
def test_any_body_of_a_run_is_judged(body: bytes, content_type: str) -> None:
    status, errors, breaches = run_errors(body, content_type, native=False)
    assert status in (400, 415)
    assert errors
    assert breaches


@pytest.mark.parametrize(
    ("fault", "runs"),
    [
        (Fault.status(429), 0),
        (Fault.status(404), 0),
        (Fault.status(408), 1),
        (Fault.status(500), 1),
        (Fault.body(b"<html>", content_type="text/html"), 1),
        (Fault.delay(0.001), 1),
    ],
    ids=lambda value: str(value.kind) if isinstance(value, Fault) else str(value),
)
async def test_a_fault_of_a_run_is_an_answer_that_got_lost_or_a_refusal(
    fault: Fault, runs: int
) -> None:
    async with FakeHilos(faults=[fault]) as fake:
        headers = {"Authorization": f"Token {fake.token}"}
        body = {"execute_for": "LIST", "contact_list": []}
        async with aiohttp.ClientSession(headers=headers) as client:
            async with client.post(f"{fake.base_url}/flow/{fake.flows[0]}/run", json=body):
                pass
        assert (fake.runs_created, fake.faulted) == (runs, 1)


async def test_faults_hit_lists_by_the_execution_they_are_filtered_by() -> None:
    async with FakeHilos() as fake:
        rows = (await ask(fake, "flow-execution")).json["results"]
        fake.faults = [Fault.status(500, ids=[rows[1]["id"]], times=1)]
        path = "flow-execution-contact"
        assert (await ask(fake, path, flow_execution=rows[0]["id"])).status == 200
        assert (await ask(fake, path, flow_execution=rows[1]["id"])).status == 500
        assert (await ask(fake, path, flow_execution=rows[1]["id"])).status == 200
        assert (await ask(fake, path, flow_execution=rows[1]["id"], page=2)).status in (404, 500)


@pytest.mark.parametrize("path", ["flow-execution", "flow-execution-contact"])
async def test_lists_shift_while_one_walks(path: str) -> None:
    async with FakeHilos(page_size=5) as fake:
        before = (await ask(fake, path)).json
        fake.shift = 2.0
        after = [(await ask(fake, path)).json for _ in range(4)]
        first = [row["id"] for row in before["results"]]
        assert all([row["id"] for row in page["results"]] != first for page in after)
        assert abs(after[-1]["count"] - before["count"]) <= 12
        with pytest.raises(ValueError, match="shift"):
            fake.shift = -1


async def test_a_run_goes_its_way_from_when_it_was_ordered() -> None:
    class Clock:
        now = 0.0

        def __call__(self) -> float:
            return self.now

    clock = Clock()
    async with FakeHilos(lifetime=100, clock=clock) as fake:
        clock.now = 1_000.0
        body = {"execute_for": "LIST", "contact_list": [{"phone": PHONE}] * 3}
        made = (await ask(fake, f"flow/{fake.flows[0]}/run", body)).json
        assert (made["status"], made["num_contacts"], made["completed"]) == ("PROCESSING", 3, 0)
        clock.now = 1_100.0
        ended = fake.document(made["id"])
        assert ended["status"] in ("COMPLETED", "CANCELED")
        assert ended["num_contacts"] == 3


async def test_a_removed_contact_is_in_no_list_whatever_was_listed_before() -> None:
    async with FakeHilos() as known:
        execution = (await ask(known, "flow-execution")).json["results"][0]["id"]
        rows = await ask(known, "flow-execution-contact", flow_execution=execution)
        count, gone = rows.json["count"], rows.json["results"][1]["id"]
    async with FakeHilos() as fake:  # its ids are the same
        fake.remove(gone)
        fake.remove(str(UUID(int=7)))  # a contact of which no list knows
        for _ in range(2):
            got = (await ask(fake, "flow-execution-contact", flow_execution=execution)).json
            assert got["count"] == count - 1
            assert gone not in {row["id"] for row in got["results"]}
