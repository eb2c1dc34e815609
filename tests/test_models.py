"""The models: both contracts decode, survive a round trip, and tolerate what the server adds."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilos_async import (
    Comparison,
    DecodeError,
    FlowExecution,
    FlowExecutionStatus,
    FlowVersion,
)
from hilos_async.testing import FakeHilos
from tests import contract

if TYPE_CHECKING:
    from hilos_async.models import JSON

ID = UUID("a1b2c3d4-0000-4000-8000-1234567890ab")


def document(**changes: JSON) -> bytes:
    return json.dumps({**FakeHilos().document(ID), **changes}).encode()


@given(contract.execution(native=False) | contract.execution(native=True))
@settings(max_examples=150)
def test_documents_of_both_contracts_decode_and_come_back_equal(raw: JSON) -> None:
    execution = FlowExecution.from_json(json.dumps(raw))
    assert FlowExecution.from_json(execution.to_json()) == execution
    assert pickle.loads(pickle.dumps(execution)) == execution
    assert copy.deepcopy(execution) == execution
    assert json.loads(json.dumps(execution.to_dict())) == json.loads(execution.to_json())


@given(contract.execution(native=False) | contract.execution(native=True))
@settings(max_examples=50)
def test_every_field_of_the_contract_is_a_field_of_the_model(raw: dict[str, JSON]) -> None:
    plain = FlowExecution.from_json(json.dumps(raw)).to_dict()
    for name, value in raw.items():
        if not name.startswith("x_") and isinstance(value, str | bool) and not name.endswith("_on"):
            assert plain[name] == value


@given(st.binary(max_size=200) | contract.json_values.map(lambda value: json.dumps(value).encode()))
def test_anything_else_is_a_decode_error_and_nothing_else(body: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        FlowExecution.from_json(body)
    assert caught.value.path.startswith("$")


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"status": 5}, "$.status"),
        ({"created_on": "2026-01-02T03:04:05"}, "$.created_on"),
        ({"flow": None}, "$.flow"),
        ({"flow_version": {"flow": {}}}, "$.flow_version.flow"),
        ({"contact_filters": [{"field": 1}]}, "$.contact_filters[0].field"),
        ({"id": "no uuid"}, "$.id"),
    ],
)
def test_a_decode_error_says_where_in_the_json(changes: dict[str, JSON], path: str) -> None:
    with pytest.raises(DecodeError, match="not a document") as caught:
        FlowExecution.from_json(document(**changes))
    assert caught.value.path == path
    assert len(caught.value.body) <= 120


def test_a_text_with_lone_surrogates_is_a_decode_error() -> None:
    with pytest.raises(DecodeError):
        FlowExecution.from_json('{"status": "\ud800"}')


def test_an_unknown_word_is_a_member_that_says_so_and_prints_as_itself() -> None:
    status = FlowExecution.from_json(document(status="ARCHIVED")).status
    assert isinstance(status, FlowExecutionStatus)
    assert not status.is_known
    assert not status.is_terminal
    assert f"{status}" == str(status) == status == "ARCHIVED"
    assert repr(status) == "<FlowExecutionStatus unknown: 'ARCHIVED'>"
    assert status not in list(FlowExecutionStatus)
    assert status is FlowExecutionStatus("ARCHIVED")
    assert pickle.loads(pickle.dumps(status)) is copy.deepcopy(status) is status
    words: dict[str, int] = {status: 1}
    assert words["ARCHIVED"] == 1
    assert repr(FlowExecutionStatus.RUNNING) == "<FlowExecutionStatus.RUNNING>"
    assert FlowExecutionStatus.RUNNING.is_known
    assert hash(Comparison.NOT_EXACT) == hash("!exact")


def test_only_text_can_be_an_unknown_word() -> None:
    with pytest.raises(ValueError, match="5"):
        FlowExecutionStatus(5)  # type: ignore[arg-type]  # wrong on purpose


def test_unknown_words_do_not_fill_the_memory() -> None:
    for number in range(2_000):
        FlowExecutionStatus(f"WORD_{number}")
    assert len(list(FlowExecutionStatus)) == 9


def test_counters_that_are_absent_or_null_are_zero() -> None:
    raw = FakeHilos().document(ID)
    raw.pop("failed")
    raw["expired"] = None
    execution = FlowExecution.from_json(json.dumps(raw))
    assert (execution.failed, execution.expired) == (0, 0)
    assert execution.num_contacts == raw["num_contacts"]


@pytest.mark.parametrize(
    ("status", "over"),
    [("COMPLETED", True), ("CANCELED", True), ("RUNNING", False), ("NEW", False)],
)
def test_completed_and_canceled_are_terminal(status: str, over: bool) -> None:
    assert FlowExecution.from_json(document(status=status)).is_terminal is over


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("1 02:03:04.500000", timedelta(days=1, hours=2, minutes=3, seconds=4.5)),
        ("00:12:00", timedelta(minutes=12)),
        ("12:00", timedelta(minutes=12)),
        ("7.5", timedelta(seconds=7.5)),
        ("-1 23:00:00", timedelta(hours=-1)),
        ("999999999 24:00:00", None),
        ("PT12M", None),
        ("\u0660\u0660:\u0661\u0662", None),
        ("", None),
        (None, None),
    ],
)
def test_average_completion_reads_the_api_notation(
    text: str | None, meant: timedelta | None
) -> None:
    execution = FlowExecution.from_json(document(avg_completion_time=text))
    assert execution.avg_completion_time == text
    assert execution.average_completion == meant
    version = msgspec.structs.replace(execution.flow_version, avg_completion_time=text)
    assert isinstance(version, FlowVersion)
    assert version.average_completion == meant


def test_completion_rate_is_a_share_and_unknown_without_contacts() -> None:
    assert FlowExecution.from_json(document(num_contacts=4, completed=1)).completion_rate == 0.25
    assert FlowExecution.from_json(document(num_contacts=0)).completion_rate is None


def test_date_times_keep_the_offset_they_came_with() -> None:
    execution = FlowExecution.from_json(document(created_on="2026-03-01T20:00:00.000001-06:00"))
    assert execution.created_on is not None
    assert execution.created_on.utcoffset() == timedelta(hours=-6)
    assert execution.created_on.astimezone(UTC).day == 2


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-03-01T20:00:00Z", datetime(2026, 3, 1, 20, tzinfo=UTC)),
        ("yesterday", None),
        (None, None),
    ],
)
def test_last_run_reads_a_date_time_where_the_text_is_one(
    text: str | None, meant: datetime | None
) -> None:
    execution = FlowExecution.from_json(document(last_run_on=text))
    assert execution.last_run_on == meant
    assert execution.last_run_text == text
    assert execution.to_dict()["last_run_on"] == text
    with pytest.warns(DeprecationWarning, match="last_run_on"):
        assert execution.last_run == meant
