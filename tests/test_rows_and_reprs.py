"""What a batch looks like as rows and in a notebook, and what a log shows of people: nobody."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from hilos_async import (
    ExecutionBatch,
    FlowExecution,
    NotFoundError,
    RateLimit,
    RetryPolicy,
    ServerError,
)
from hilos_async.export._columns import EXECUTIONS
from hilos_async.models import Channel, ContactFilter, Flow, FlowVersion, User
from hilos_async.testing import FakeHilos, Fault
from tests.faults import session
from tests.raw_server import RawServer, ids, reply, reset, send, status

if TYPE_CHECKING:
    from tests.raw_server import Action

pytestmark = pytest.mark.anyio

IDS = ids(6)
PEOPLE = ("ana@example.org", "+5215512345678", "5512345678", "Ana", "Torres")


def an_execution(**fields: object) -> FlowExecution:
    """One with people's data wherever the API may have some."""
    person = {"id": 7, "email": "ana@example.org", "first_name": "Ana", "last_name": "Torres"}
    channel = {"id": 3, "channel_id": "+5215512345678", "name": "Ana 5512345678"}
    flow = {"id": "f1", "name": "Promo", "channel": channel, "created_by": person}
    document = {
        **FakeHilos().document(IDS[0]),
        "status": "COMPLETED",
        "flow": flow,
        "flow_version": {
            "flow": flow,
            "is_current_version": True,
            "last_updated_on": None,
            "published_by": person,
        },
        "created_by": person,
        "status_triggered_by": person,
        "contact_filters": [
            {"field": "phone", "comparison": "EQUAL", "value": "+5215512345678"},
        ],
        "flow_execution_variables": {"name": "Ana Torres"},
        "status_reason": "Ana asked for it",
        "num_contacts": 1_200,
        "completed": 1_100,
        "running": 0,
        "failed": 90,
        "expired": 10,
        "canceled": 0,
        **fields,
    }
    return FlowExecution.from_json(json.dumps(document))


def test_an_execution_prints_as_one_line_with_its_counts() -> None:
    text = str(an_execution())
    assert text == (
        f"<FlowExecution {IDS[0]} 'Promo' COMPLETED: 1,200 contacts, 1,100 completed, 90 failed, "
        "10 expired>"
    )
    none = an_execution(num_contacts=1, completed=0, failed=0, expired=0, flow=an_odd_flow())
    assert repr(none) == f"<FlowExecution {IDS[0]} 'Two\\nlines' COMPLETED: 1 contact>"


def an_odd_flow() -> dict[str, object]:
    return {"id": "f2", "name": "Two\nlines", "channel": None, "created_by": None}


def test_no_repr_of_a_model_shows_who_somebody_is() -> None:
    execution = an_execution()
    version = execution.flow_version
    things: list[object] = [
        execution,
        version,
        execution.flow,
        execution.flow.channel,
        execution.created_by,
        *execution.contact_filters,
        ExecutionBatch({IDS[0]: execution}, {}),
        {"in a container": [execution]},
    ]
    kinds = {type(thing) for thing in things}
    assert {FlowExecution, FlowVersion, Flow, Channel, User, ContactFilter} <= kinds
    for thing in things:
        for shown in (repr(thing), str(thing), f"{thing}"):
            assert "\n" not in shown
            assert not [person for person in PEOPLE if person in shown], shown


def test_rich_shows_no_more_than_a_repr() -> None:
    pretty = pytest.importorskip("rich.pretty")
    execution = an_execution()
    for thing in (execution, execution.created_by, [execution.flow], execution.contact_filters):
        shown = pretty.pretty_repr(thing)
        assert not [person for person in PEOPLE if person in shown], shown
    assert str(IDS[0]) in pretty.pretty_repr(execution)
    assert "executions=1" in pretty.pretty_repr(
        ExecutionBatch({IDS[0]: execution}, {}).summary().rows[0]
    )


async def test_what_a_stream_and_a_watch_give_shows_nobody_either() -> None:
    body = an_execution().to_json()
    async with RawServer(then=send(reply(200, body))) as server, session(server.url) as hilos:
        async with hilos.stream_executions([IDS[0]]) as lookups:
            shown = [repr(lookup) async for lookup in lookups]
        async with hilos.watch_executions([IDS[0]]) as changes:
            shown += [repr(change) async for change in changes]
    assert len(shown) == 2
    assert not [person for person in PEOPLE if person in "".join(shown)]


@pytest.mark.parametrize(
    "body",
    [b'{"phone": "+5215512345678", "status": 5}', b"<p>ana@example.org</p>", b'["Ana Torres"]'],
)
async def test_the_message_of_a_decode_error_quotes_no_reply(body: bytes) -> None:
    async with RawServer(then=send(reply(200, body))) as server, session(server.url) as hilos:
        batch = await hilos.gather_executions([IDS[0]])
        (error,) = batch.errors.values()
        assert type(error).__name__ == "DecodeError"
        for shown in (str(error), repr(error), repr(error.__cause__)):
            assert not [person for person in PEOPLE if person in shown], shown


# --- rows


async def a_batch() -> ExecutionBatch:
    async with FakeHilos(faults=[Fault.status(404, ids=IDS[5:])]) as fake:
        async with fake.session(pace="off") as hilos:
            return await hilos.gather_executions([*IDS, "nonsense"])


async def test_each_execution_is_a_flat_row_with_the_columns_of_an_export() -> None:
    batch = await a_batch()
    rows = batch.to_rows()
    assert [row["id"] for row in rows] == [str(id) for id in batch.executions]
    assert {tuple(row) for row in rows} == {EXECUTIONS.header[:-2]}  # without those of errors
    for row, execution in zip(rows, batch.executions.values(), strict=True):
        assert row["flow"] == execution.flow.name
        assert row["completed"] == execution.completed
        assert row["completion_rate"] == execution.completion_rate
        assert row["created_on"] == execution.created_on
        for cell in row.values():
            assert cell is None or type(cell) in (str, int, float, datetime)


async def test_rows_have_their_dates_in_one_zone() -> None:
    batch = await a_batch()
    for tz, zone in (("UTC", UTC), (timezone(timedelta(hours=-6)),) * 2):
        dates = [row["created_on"] for row in batch.to_rows(tz)]
        assert {date.tzinfo for date in dates if isinstance(date, datetime)} == {zone}
    with pytest.raises(ValueError, match="is no time zone"):
        batch.to_rows("Mars/Olympus")
    assert ExecutionBatch({}, {}).to_rows() == []


async def test_rows_are_a_data_frame_in_one_line() -> None:
    pandas = pytest.importorskip("pandas")
    batch = await a_batch()
    frame = pandas.DataFrame(batch.to_rows())
    assert len(frame) == len(batch.executions)
    assert frame["completed"].sum() == batch.summary().rows[0].completed
    by_flow = frame.groupby("flow")[["completed", "num_contacts"]].sum()
    assert len(by_flow) == len({execution.flow.name for execution in batch.executions.values()})
    assert str(frame["created_on"].dtype).startswith("datetime64")


async def test_a_notebook_shows_the_summary_and_runs_no_script() -> None:
    odd = {"id": "f2", "name": "<script>alert(1)</script>", "channel": None, "created_by": None}
    execution = an_execution(flow=odd)
    missing = NotFoundError("gone", status=404)
    batch = ExecutionBatch({IDS[0]: execution}, {IDS[1]: missing})
    shown = batch._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert "1 × NotFoundError" in shown
    assert "<td>1,100</td>" in shown
    assert "<td>91.7%</td>" in shown
    assert shown.count("<tr>") == 2
    assert "<table>" in ExecutionBatch({}, {})._repr_html_()


# --- an id as it was given


async def test_a_batch_finds_an_id_in_any_spelling() -> None:
    batch = await a_batch()
    id = IDS[0]
    for given in (id, str(id), str(id).upper(), id.hex, f"{{{id}}}", f" {id} ", f"urn:uuid:{id}"):
        assert batch[given] is batch.executions[id]
        assert batch.get(given) is batch.executions[id]
        assert given in batch
    for failed in (IDS[5], str(IDS[5]).upper()):
        assert failed in batch
        assert batch.get(failed) is None
        with pytest.raises(NotFoundError) as caught:
            batch[failed]
        assert caught.value is batch.errors[IDS[5]]
    assert "nonsense" in batch
    assert batch.get("nonsense") is None
    with pytest.raises(type(batch.errors["nonsense"])):
        batch["nonsense"]
    for absent in (UUID(int=1), str(UUID(int=1)), "other nonsense"):
        assert absent not in batch
        assert batch.get(absent) is None
        with pytest.raises(KeyError):
            batch[absent]
    for odd in (None, 5, object()):
        assert odd not in batch
    assert pickle.loads(pickle.dumps(batch))[id] == batch[id]


# --- how many attempts, and how many of them count


@pytest.mark.parametrize(
    ("script", "attempts", "uncounted", "words"),
    [
        ([status(500)] * 4, 4, 0, "[4 attempts in "),
        ([status(429), *[status(500)] * 4], 5, 1, "; 1 not counted: asked to wait, or"),
        ([status(503, headers={"Retry-After": "1"}), *[status(500)] * 4], 5, 1, "; 1 not counted"),
        ([status(429), status(404)], 2, 1, "; 1 not counted"),
    ],
)
async def test_an_error_tells_which_of_its_attempts_did_not_count(
    script: list[Action], attempts: int, uncounted: int, words: str
) -> None:
    async with (
        RawServer(script) as server,
        session(server.url, pace=RateLimit(1_000, per=0.01)) as hilos,
    ):
        with pytest.raises((ServerError, NotFoundError)) as caught:
            await hilos.get_execution(IDS[0])
        assert (caught.value.attempts, caught.value.uncounted) == (attempts, uncounted)
        assert words in str(caught.value)
        assert pickle.loads(pickle.dumps(caught.value)).uncounted == uncounted
    assert RetryPolicy().attempts == attempts - uncounted or attempts == 2


async def test_a_closed_connection_is_not_counted_either() -> None:
    async with RawServer() as server, session(server.url) as hilos:
        await hilos.get_execution(IDS[0])
        server.script([reset(), *[status(500)] * 4])
        with pytest.raises(ServerError) as caught:
            await hilos.get_execution(IDS[0])
        assert (caught.value.attempts, caught.value.uncounted) == (5, 1)
