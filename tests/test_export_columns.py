"""The columns of a table of contacts: one for each key of ``meta``, and JSON for the rest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import UUID

from hypothesis import given

from hilos_async.export import ContactRecord
from hilos_async.export._columns import contacts
from hilos_async.export._records import ErrorNote
from hilos_async.models import Contact, ExecutionContact
from tests import contract

if TYPE_CHECKING:
    from hilos_async.models import JSON

ID = UUID(int=7)


def record(meta: JSON) -> ContactRecord:
    person = Contact(id="7", phone="+5215512345678", source="x", last_updated_on=None, meta=meta)
    return ContactRecord(id=str(ID), contact=ExecutionContact(id=ID, contact=person))


def answers(*metas: JSON) -> list[dict[str, object]]:
    records = [record(meta) for meta in metas]
    columns = contacts(records)
    rows = [dict(zip(columns.header, columns.cells(each), strict=True)) for each in records]
    return [
        {name: cell for name, cell in row.items() if name.startswith("meta") and cell is not None}
        for row in rows
    ]


def test_each_key_has_a_column_of_plain_values() -> None:
    assert answers({"a": 1, "b": "x"}, {"b": True, "c": None}, {"c": {"d": [1]}}) == [
        {"meta.a": 1, "meta.b": "x"},
        {"meta.b": "true"},
        {"meta.c": '{"d":[1]}'},
    ]


def test_what_is_no_table_and_what_has_no_column_is_json() -> None:
    many: dict[str, JSON] = {f"{number:03}": number for number in range(202)}
    whole, listed, told, nothing = answers(many, ["a", 1], "told", None)
    assert len(whole) == 201
    assert whole["meta"] == '{"200":200,"201":201}'
    assert (listed, told, nothing) == ({"meta": '["a",1]'}, {"meta": "told"}, {})


def test_an_error_has_a_row_of_its_own() -> None:
    failed = ContactRecord(id=f"contacts of {ID}", error=ErrorNote("ServerError", "500", 500))
    columns = contacts([failed])
    row = dict(zip(columns.header, columns.cells(failed), strict=True))
    assert (row["id"], row["error"], row["phone"]) == (failed.id, "ServerError", None)


@given(contract.json_values, contract.json_values)
def test_nothing_of_meta_is_left_out(one: JSON, two: JSON) -> None:
    for meta, cells in zip((one, two), answers(one, two), strict=True):
        if isinstance(meta, dict):
            back = {}
            for name, cell in cells.items():
                key = name.removeprefix("meta.")
                back[key] = cell if isinstance(meta[key], str) else json.loads(json.dumps(cell))
            expected = {
                key: value
                if isinstance(value, str | int | float) and not isinstance(value, bool)
                else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
                for key, value in meta.items()
                if value is not None
            }
            assert back == expected
        elif meta is not None:
            assert list(cells) == ["meta"]
