"""Lists and contacts as a session gives them, asked of a real server."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from hilos_async import (
    AuthenticationError,
    ContactBatch,
    DecodeError,
    ExecutionBrief,
    ExecutionContact,
    HilosSession,
    InvalidIdError,
    NotFoundError,
    RetryPolicy,
    ServerError,
)
from hilos_async.testing import FakeHilos, FakeLimit, Fault
from tests.raw_server import RawServer, reply, send, status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio
both = pytest.mark.parametrize("native", [False, True], ids=["activecampaign", "native"])


async def ids(rows: AsyncIterator[ExecutionBrief] | AsyncIterator[ExecutionContact]) -> list[UUID]:
    return [row.id async for row in rows]


def some_execution(fake: FakeHilos, least: int, most: int) -> UUID:
    """The id of an execution with a number of contacts between these bounds."""
    number = 0
    while True:
        number += 1
        id = UUID(int=number)
        contacts = fake.document(id)["num_contacts"]
        if isinstance(contacts, int) and least <= contacts <= most:
            return id


@both
async def test_a_list_gives_each_execution_once_newest_first(native: bool) -> None:
    async with FakeHilos(native=native, executions=95) as fake, fake.session(pace="off") as hilos:
        rows = [row async for row in hilos.list_executions()]
        assert len({row.id for row in rows}) == len(rows) == 95
        assert rows == sorted(rows, key=lambda row: str(row.created_on), reverse=True)
        whole = await hilos.get_execution(rows[0].id)
        assert (whole.status, whole.num_contacts) == (rows[0].status, rows[0].num_contacts)
        assert fake.requests == 4
        assert fake.violations == []


@both
async def test_every_filter_reaches_the_server_under_its_own_name(native: bool) -> None:
    async with FakeHilos(native=native) as fake, fake.session(pace="off") as hilos:
        first = await anext(aiter(hilos.list_executions()))
        whole = await hilos.get_execution(first.id)
        flow, version = whole.flow.id, whole.flow_version.id
        of_flow = await ids(aiter(hilos.list_executions(flow=flow, search=whole.flow.name)))
        assert first.id in of_flow
        assert first.id in await ids(aiter(hilos.list_executions(flow_version=version)))
        contacts = hilos.list_execution_contacts(flow=flow, flow_version=version)
        counted = [await hilos.get_execution(id) for id in of_flow]
        assert await contacts.count() == sum(execution.num_contacts for execution in counted)
        row = await anext(aiter(hilos.list_execution_contacts(execution=first.id, page_size=7)))
        one = hilos.list_execution_contacts(
            execution=first.id, contact=row.contact.id, is_active=not row.is_terminal
        )
        assert await ids(aiter(one)) == [row.id]
        assert fake.violations == []


async def test_the_filters_by_flow_need_a_deployment_that_is_known() -> None:
    async with FakeHilos() as fake, HilosSession(fake.token, base_url=fake.base_url) as hilos:
        for filters in ({"flow": UUID(int=1)}, {"flow_version": UUID(int=1)}):
            with pytest.raises(ValueError, match="deployment='activecampaign'"):
                hilos.list_execution_contacts(**filters)  # type: ignore[arg-type]  # one at a time
        assert await hilos.list_execution_contacts(execution=UUID(int=1)).count()
    with pytest.raises(ValueError, match="deployment='acme'"):
        HilosSession("key", deployment="acme")  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    "options",
    [
        {"account": "acme"},
        {"base_url": "https://gateway.example/hilos/api/3/channel/whatsapp"},
        {},
        {"base_url": "https://gateway.example/x", "deployment": "native"},
    ],
)
async def test_a_base_url_of_the_api_tells_its_deployment(options: Any) -> None:
    async with HilosSession("key", **options) as hilos:
        hilos.list_execution_contacts(flow=UUID(int=1))


@pytest.mark.parametrize(
    ("filters", "error"),
    [
        ({"execution": "x"}, InvalidIdError),
        ({"flow": 7}, InvalidIdError),
        ({"flow_version": ""}, InvalidIdError),
        ({"contact": "Ana"}, InvalidIdError),
        ({"is_active": "yes"}, TypeError),
        ({"search": 7}, TypeError),
        ({"page_size": 0}, ValueError),
        ({"page_size": "40"}, TypeError),
    ],
)
async def test_a_filter_that_is_none_is_refused_before_any_request(
    filters: Any, error: type[Exception]
) -> None:
    async with FakeHilos() as fake, fake.session() as hilos:
        with pytest.raises(error, match=next(iter(filters)).replace("_", ".")):
            hilos.list_execution_contacts(**filters)
        assert fake.requests == 0


@both
async def test_a_walk_keeps_its_promise_while_the_list_shifts(native: bool) -> None:
    async with FakeHilos(native=native) as fake, fake.session(pace="off") as hilos:
        execution = some_execution(fake, 300, 600)
        listing = hilos.list_execution_contacts(execution=execution, page_size=20)
        before = set(await ids(aiter(listing)))
        fake.shift = 1.0
        given = await ids(aiter(listing))
        async with listing.stream() as rows:
            streamed = await ids(rows)
        fake.shift = 0.0
        after = set(await ids(aiter(listing)))
        for got in (given, streamed):
            assert len(got) == len(set(got))
            assert before & after <= set(got)
        assert before != after


async def test_next_is_never_followed() -> None:
    async with FakeHilos(executions=95) as fake, fake.session(pace="off") as hilos:
        fake.next_host = "https://elsewhere.example"
        assert len(await ids(aiter(hilos.list_executions()))) == 95


async def test_pages_and_the_count_and_what_lies_past_the_end() -> None:
    async with FakeHilos(executions=95) as fake, fake.session(pace="off") as hilos:
        listing = hilos.list_executions()
        assert await listing.count() == 95
        pages = [page async for page in listing.pages(start=2)]
        assert [(page.number, len(page.results), page.has_next) for page in pages] == [
            (2, 40, True),
            (3, 15, False),
        ]
        assert [page async for page in listing.pages(start=9)] == []


async def test_a_stream_asks_ahead_and_keeps_the_order() -> None:
    async with FakeHilos(latency=0.005) as fake, fake.session(pace="off") as hilos:
        listing = hilos.list_execution_contacts(execution=some_execution(fake, 300, 600))
        plain = await ids(aiter(listing))
        assert fake.max_in_flight == 1
        async with listing.stream(ahead=3) as rows:
            assert await ids(rows) == plain
        assert fake.max_in_flight == 3


async def test_a_page_that_fails_is_asked_for_again_and_no_row_is_lost() -> None:
    fast = RetryPolicy(max_backoff=0.001)
    faults = [Fault.status(502, share=0.5, times=1), Fault.reset("body", share=0.5, times=2)]
    async with FakeHilos() as fake, fake.session(pace="off", retry=fast) as hilos:
        listing = hilos.list_execution_contacts(execution=some_execution(fake, 300, 600))
        plain = await ids(aiter(listing))
        fake.faults += faults
        assert await ids(aiter(listing)) == plain
        async with listing.stream() as rows:
            assert await ids(rows) == plain
        assert fake.faulted


async def test_what_fails_for_good_comes_out_of_the_loop() -> None:
    once = RetryPolicy(attempts=1)
    async with FakeHilos(faults=[Fault.status(500)]) as fake, fake.session(retry=once) as hilos:
        with pytest.raises(ServerError, match=r"GET flow-execution got 500") as caught:
            await hilos.list_executions().count()
        assert caught.value.execution_id is None
        assert caught.value.attempts == 1
        assert caught.value.__notes__ == ["It was page 1 that was asked for."]
        with pytest.raises(ServerError):
            async with hilos.list_executions().stream() as rows:
                await anext(rows)
        fake.revoke()
        with pytest.raises(AuthenticationError):
            await anext(aiter(hilos.list_executions()))


async def test_a_first_page_that_is_not_there_is_an_error() -> None:
    async with FakeHilos() as fake, fake.session(base_url=f"{fake.base_url}/v2") as hilos:
        with pytest.raises(NotFoundError, match="base_url"):
            await hilos.list_executions().count()


async def test_a_page_that_does_not_fit_tells_where_and_quotes_nobody() -> None:
    secret = "maria@example.org"
    document = {"count": 1, "results": [{"id": 5, "contact": {"first_name": secret}}]}
    server = RawServer(then=send(reply(200, json.dumps(document).encode())))
    async with server, HilosSession("key", base_url=server.url) as hilos:
        with pytest.raises(DecodeError) as caught:
            await anext(aiter(hilos.list_execution_contacts()))
        assert caught.value.path.startswith("$.results")
        assert secret not in f"{caught.value} {caught.value!r}"


@both
async def test_one_contact_and_many_by_their_ids(native: bool) -> None:
    async with FakeHilos(native=native) as fake, fake.session(pace="off") as hilos:
        execution = some_execution(fake, 50, 300)
        rows = [row async for row in hilos.list_execution_contacts(execution=execution)]
        whole = await hilos.get_execution_contact(str(rows[0].id).upper())
        assert whole.contact == rows[0].contact
        assert whole.flow_execution is not None
        assert whole.flow_execution.id == execution
        assert whole.execution_steps
        gone = rows[1].id
        fake.remove(gone)
        told: list[int] = []
        batch = await hilos.gather_execution_contacts(
            [row.id for row in rows[:20]] + [rows[0].id, "x"],
            on_progress=lambda progress: told.append(progress.done),
        )
        assert isinstance(batch, ContactBatch)
        assert (len(batch), len(batch.contacts), len(batch.errors)) == (21, 19, 2)
        assert batch[rows[2].id].contact == rows[2].contact
        assert isinstance(batch.errors[gone], NotFoundError)
        assert "contact of an execution" in str(batch.errors[gone])
        assert told == list(range(1, 22))


async def test_a_refused_key_ends_a_batch_of_contacts_with_what_there_was() -> None:
    async with FakeHilos() as fake, fake.session(pace="off", max_concurrency=1) as hilos:

        def revoke(progress: object) -> None:
            fake.revoke()

        with pytest.raises(AuthenticationError) as caught:
            await hilos.gather_execution_contacts(
                [UUID(int=number) for number in range(9)], on_progress=revoke
            )
        assert isinstance(caught.value.batch, ContactBatch)
        assert len(caught.value.batch.contacts) == 1


async def test_an_execution_and_a_contact_with_one_id_give_each_their_own() -> None:
    id = UUID(int=7)
    async with FakeHilos(latency=0.01) as fake, fake.session(pace="off") as hilos:
        execution, contact, again = await asyncio.gather(
            hilos.get_execution(id, max_age=60),
            hilos.get_execution_contact(id),
            hilos.get_execution(id, max_age=60),
        )
        assert execution.id == contact.id == id
        assert execution is again
        assert isinstance(contact, ExecutionContact)
        assert fake.requests == 2


async def test_the_raw_reply_stands_beside_the_model() -> None:
    limit = FakeLimit(50, headers="split")
    async with FakeHilos(limit=limit) as fake, fake.session(pace="off") as hilos:
        response = await hilos.get_execution_response(UUID(int=7))
        assert response.value == await hilos.get_execution(UUID(int=7))
        assert (response.status, response.attempts) == (200, 1)
        assert response.headers["ratelimit-limit"] == "50"
        assert type(response.value).from_json(response.body) == response.value
        assert response.elapsed > 0
        assert repr(response).startswith(f"<Response 200 of {len(response.body)} bytes")
        fake.remove(UUID(int=8))
        with pytest.raises(NotFoundError):
            await hilos.get_execution_response(UUID(int=8))


async def test_the_raw_reply_counts_attempts_and_shows_no_key() -> None:
    echoed = "Token s3cret"
    document = FakeHilos().document(UUID(int=7)) | {"status_reason": echoed}
    good = reply(200, json.dumps(document).encode(), {"X-Echo": echoed})
    server = RawServer([status(503), send(good)])
    fast = RetryPolicy(max_backoff=0.001)
    async with server, HilosSession("s3cret", base_url=server.url, retry=fast) as hilos:
        response = await hilos.get_execution_response(UUID(int=7))
        assert response.attempts == 2
        assert response.headers["x-echo"] == "Token ***"
        assert b"s3cret" not in response.body
