"""Executions that are read share their equal parts, and nobody can tell but by the memory."""

from __future__ import annotations

import copy
import json
import pickle
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilos_async import DecodeError, FlowExecution
from hilos_async._api import parts
from hilos_async._api.objects import Channel, Flow, User
from hilos_async._api.parts import Part, execution_reader
from hilos_async.testing import FakeHilos
from tests import contract
from tests.calls import interpret

if TYPE_CHECKING:
    from collections.abc import Callable

    from hilos_async.models import JSON

read_execution = execution_reader()

ID = UUID("a1b2c3d4-0000-4000-8000-1234567890ab")


def document(**changes: JSON) -> dict[str, object]:
    return {**FakeHilos().document(ID), **changes}


def body(of: object) -> bytes:
    return json.dumps(of).encode()


@given(contract.execution(native=False) | contract.execution(native=True))
@settings(max_examples=150)
def test_what_is_read_is_what_the_model_reads(raw: JSON) -> None:
    assert read_execution(body(raw)) == FlowExecution.from_json(body(raw))


def spoilt(raw: JSON) -> st.SearchStrategy[bytes]:
    """The document with a number where one of its fields wants something else, mostly."""
    assert isinstance(raw, dict)
    return st.sampled_from(sorted(raw)).map(lambda name: body({**raw, name: 0.5}))


@given(
    st.binary(min_size=1, max_size=200)
    | contract.json_values.map(body)
    | contract.execution(native=True).flatmap(spoilt)
)
@settings(max_examples=300)
def test_what_the_model_refuses_is_refused_with_its_words_and_path(raw: bytes) -> None:
    def path(read: Callable[[], object]) -> str:
        try:
            read()
        except DecodeError as error:
            return error.path
        return "it fits"

    expected = path(lambda: FlowExecution.from_json(raw))
    if expected == "it fits":
        assert read_execution(raw) == FlowExecution.from_json(raw)
    else:
        assert path(lambda: interpret(200, {}, raw, ID)) == expected


def test_equal_parts_are_one_object() -> None:
    one = read_execution(body(document()))
    other = read_execution(body(document(id="00000000-0000-4000-8000-000000000001", failed=3)))
    assert one.flow is other.flow
    assert one.flow is one.flow_version.flow
    assert one.flow_version is other.flow_version
    assert one.created_by is other.created_by
    assert one.id != other.id


def changed_flow(raw: dict[str, object]) -> None:
    version = raw["flow_version"]
    assert isinstance(version, dict)
    version["flow"]["name"] = "another"


def changed_counter(raw: dict[str, object]) -> None:
    version = raw["flow_version"]
    assert isinstance(version, dict)
    version["completed"] += 1


@pytest.mark.parametrize("change", [changed_counter, changed_flow])
def test_a_part_that_has_changed_inside_is_read_anew(
    change: Callable[[dict[str, object]], None],
) -> None:
    raw = document()
    before = read_execution(body(raw))
    change(raw)
    after = read_execution(body(raw))
    assert after.flow_version != before.flow_version
    assert after == FlowExecution.from_json(body(raw))
    assert after.flow is before.flow


def test_copies_and_pickles_are_equal_and_stand_alone() -> None:
    one, other = read_execution(body(document())), read_execution(body(document(failed=1)))
    for again in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert again == one
        assert again != other
    apart = copy.deepcopy(one)
    assert isinstance(apart.flow.trigger_config, dict)
    apart.flow.trigger_config["mine"] = 1
    assert one.flow == other.flow != apart.flow


def test_what_is_remembered_is_bounded_and_forgetting_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts, "_KEPT", 8)
    flows = Part(Flow, channel=Part(Channel), created_by=Part(User))
    for number in range(100):
        raw = document()
        flow = raw["flow"]
        assert isinstance(flow, dict)
        flow["name"] = f"flow {number}"
        assert flows.recall(body(flow)).name == f"flow {number}"
        assert len(flows.known) <= 8


def test_a_part_that_is_very_long_is_not_remembered() -> None:
    raw = document()
    version = raw["flow_version"]
    assert isinstance(version, dict)
    version["version_description"] = "x" * 20_000
    one, other = read_execution(body(raw)), read_execution(body(raw))
    assert one == other
    assert one.flow_version is not other.flow_version
    assert one.flow is other.flow


def test_a_null_where_a_person_or_a_channel_may_be_missing_stays_none() -> None:
    raw = document(created_by=None, status_triggered_by=None)
    execution = read_execution(body(raw))
    assert execution.created_by is None
    assert execution.status_triggered_by is None


def test_a_flow_that_is_null_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        read_execution(body(document(flow=None)))
