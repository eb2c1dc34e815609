"""Which columns the tables of an export have: one row for an execution, or for a contact of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar

import msgspec

from hilos_async._api.columns import COLUMNS, Cell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hilos_async.export._records import ContactRecord, ErrorNote, Record
    from hilos_async.models import JSON, ExecutionContact

R = TypeVar("R")

_WIDTHS: Final = {"flow": 34.0, "error_message": 60.0}
_MOST_KEYS: Final = 200  # of meta, with a column each


class Columns(Generic[R]):
    """A table's columns, by name, and how a record fills them; ``sheet`` is what Excel calls it."""

    def __init__(
        self, sheet: str, header: tuple[str, ...], cells: Callable[[R], tuple[Cell, ...]]
    ) -> None:
        self.sheet = sheet
        self.header = header
        self.cells = cells
        self.dates = frozenset(name for name in header if name.endswith("_on"))
        self.widths = {name: 38.0 for name in header if name == "id" or name.endswith("_id")}
        self.widths |= {name: _WIDTHS[name] for name in header if name in _WIDTHS}


# --- executions


_NO_CELLS: Final[tuple[Cell, ...]] = (None,) * len(COLUMNS)


def _cells(record: Record) -> tuple[Cell, ...]:
    execution = record.execution
    if execution is None:
        return (record.id, *_NO_CELLS, *_told(record.error))
    return (record.id, *(cell(execution) for cell in COLUMNS.values()), *_told(record.error))


def _told(error: ErrorNote | None) -> tuple[Cell, Cell]:
    return (None, None) if error is None else (error.type, error.message)


EXECUTIONS: Final[Columns[Record]] = Columns(
    "executions", ("id", *COLUMNS, "error", "error_message"), _cells
)


# --- contacts

_CONTACT: Final[dict[str, Callable[[ExecutionContact], Cell]]] = {
    "status": lambda row: row.status and str(row.status),
    "status_reason": lambda row: row.status_reason,
    "created_on": lambda row: row.created_on,
    "flow": lambda row: row.flow_name,
    "contact_id": lambda row: row.contact.id,
    "phone": lambda row: row.contact.phone,
    "first_name": lambda row: row.contact.first_name,
    "last_name": lambda row: row.contact.last_name,
    "email": lambda row: row.contact.email,
    "source": lambda row: row.contact.source,
    "is_test": lambda row: _plain(row.is_test),
}
_NOTHING: Final[tuple[Cell, ...]] = (None,) * len(_CONTACT)


def contacts(records: Iterable[ContactRecord]) -> Columns[ContactRecord]:
    """The columns of a table of contacts: one for each key that ``meta`` has in these records.

    What is in no such column (a ``meta`` that is no table, a key beyond the first 200) is in a last one
    that is called ``meta``, as JSON.
    """
    keys: dict[str, None] = {}
    has_rest = False
    for record in records:
        meta = None if record.contact is None else record.contact.contact.meta
        for key in meta if isinstance(meta, dict) else ():
            if key in keys or len(keys) < _MOST_KEYS:
                keys[key] = None
            else:
                has_rest = True
        has_rest |= meta is not None and not isinstance(meta, dict)

    def cells(record: ContactRecord) -> tuple[Cell, ...]:
        row = record.contact
        meta = None if row is None else row.contact.meta
        table = meta if isinstance(meta, dict) else {}
        told = _NOTHING if row is None else tuple(cell(row) for cell in _CONTACT.values())
        answers: list[Cell] = [_plain(table.get(key)) for key in keys]
        if has_rest:
            rest: JSON = {key: value for key, value in table.items() if key not in keys}
            answers.append(_plain(rest or None if isinstance(meta, dict) else meta))
        return (record.id, record.execution_id, *told, *answers, *_told(record.error))

    named = [*(f"meta.{key}" for key in keys), *(["meta"] if has_rest else [])]
    header = ("id", "execution_id", *_CONTACT, *named, "error", "error_message")
    return Columns("contacts", header, cells)


def _plain(value: JSON) -> Cell:
    """A value of JSON as a cell: text and numbers as they are, all else as JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    return msgspec.json.encode(value).decode()
