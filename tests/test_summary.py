"""Summaries: totals that add up, in the time zone that was asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import cast
from uuid import UUID

import pytest

from hilos_async import ExecutionBatch, FlowExecution, Summary
from hilos_async.testing import FakeHilos

pytestmark = pytest.mark.anyio

IDS = [UUID(int=number) for number in range(1, 41)]


async def fetched() -> ExecutionBatch:
    async with FakeHilos() as fake, fake.session(pace="off") as hilos:
        return await hilos.gather_executions(IDS)


async def test_the_totals_are_the_sums_and_those_of_flows_add_up_to_them() -> None:
    batch = await fetched()
    (total,) = batch.summary().rows
    by_flow = batch.summary_by_flow().rows
    executions = list(batch.executions.values())
    assert (total.flow, total.flow_id) == (None, None)
    assert total.executions == 40 == sum(row.executions for row in by_flow)
    assert total.contacts == sum(e.num_contacts for e in executions)
    for name in ("ended", "contacts", "completed", "running", "failed", "expired", "canceled"):
        assert getattr(total, name) == sum(getattr(row, name) for row in by_flow)
    assert [row.contacts for row in by_flow] == sorted((r.contacts for r in by_flow), reverse=True)
    assert total.completion_rate == total.completed / total.contacts
    assert total.failure_rate == total.failed / total.contacts


@pytest.mark.parametrize("tz", ["America/Mexico_City", timezone(timedelta(hours=-6)), UTC])
async def test_dates_are_in_the_time_zone_of_choice(tz: str | timezone) -> None:
    batch = await fetched()
    (row,) = batch.summary(tz).rows
    created = [e.created_on for e in batch.executions.values() if e.created_on is not None]
    assert row.first_created_on == min(created)
    assert row.first_created_on is not None
    offset = timedelta(0) if tz is UTC else timedelta(hours=-6)
    assert row.first_created_on.utcoffset() == offset


async def test_a_zone_that_is_none_is_a_clear_error() -> None:
    batch = await fetched()
    for name in ("Mars/Olympus", "../etc", "America", "", "a\0b", "x" * 5_000):
        with pytest.raises(ValueError, match="is no time zone; one is"):
            batch.summary(name)


@pytest.mark.parametrize("tz", [None, 6, b"UTC"])
async def test_what_cannot_name_a_zone_is_a_clear_error(tz: object) -> None:
    with pytest.raises(TypeError, match="tz must be a time zone or the name of one"):
        ExecutionBatch({}, {}).summary(cast("str", tz))


EDGES = [
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-12:00",
]


@pytest.mark.parametrize("first", EDGES)
@pytest.mark.parametrize("second", [*EDGES, "2026-03-01T20:15:00-06:00"])
@pytest.mark.parametrize("tz", ["America/Mexico_City", "Asia/Tokyo", "UTC"])
async def test_the_first_and_the_last_date_there_is_do_not_end_a_summary(
    first: str, second: str, tz: str
) -> None:
    async with FakeHilos() as fake, fake.session(pace="off") as hilos:
        for id, date in zip(IDS, (first, second), strict=False):
            fake.put(id, created_on=date, status_last_change_on=date)
        batch = await hilos.gather_executions(IDS[:2])
    dates = [datetime.fromisoformat(date) for date in (first, second)]
    (row,) = batch.summary(tz).rows
    assert (row.first_created_on, row.last_change_on) == (min(dates), max(dates))
    assert batch.summary_by_flow(tz).to_rows()
    assert str(batch.summary(tz))


def test_a_batch_without_executions_has_a_summary_without_rates() -> None:
    (row,) = ExecutionBatch({}, {}).summary().rows
    assert (row.executions, row.completion_rate, row.failure_rate) == (0, None, None)
    assert (row.first_created_on, row.last_change_on) == (None, None)
    assert ExecutionBatch({}, {}).summary_by_flow() == Summary(())


async def test_it_prints_as_a_table_and_gives_rows_with_rates() -> None:
    batch = await fetched()
    lines = str(batch.summary_by_flow()).splitlines()
    assert len(lines) == 1 + len(batch.summary_by_flow().rows)
    assert lines[0].split()[:3] == ["flow", "executions", "ended"]
    assert "all flows" in str(batch.summary())
    (row,) = batch.summary().to_rows()
    assert row["executions"] == 40
    assert isinstance(row["completion_rate"], float)
    assert isinstance(next(iter(batch.executions.values())), FlowExecution)
