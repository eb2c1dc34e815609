"""The account that the fake serves: its executions and their contacts, one by one and as lists.

It knows what was put, removed, run and inserted, and puts lists in order, newest first. It knows no
HTTP: a page is a count and rows. What it is asked for while it shifts, it answers as it is then.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, cast
from uuid import UUID

from hilos_async.testing._campaigns import date_time
from hilos_async.testing._chance import draws, uuid_about
from hilos_async.testing._people import People
from hilos_async.testing._stories import Stories

Document = dict[str, object]


@dataclass(frozen=True, slots=True)
class Slice:
    """Some rows of a list, and how long the list is."""

    rows: list[Document]
    count: int


class _Run(NamedTuple):
    flow: UUID
    contacts: Sequence[Mapping[str, object]]
    born: float


class Account:
    """All that the fake knows of executions and contacts, in one of the two contracts."""

    def __init__(self, seed: int, executions: int, *, lifetime: float | None, native: bool) -> None:
        self.stories = Stories(seed, lifetime=lifetime, native=native)
        self.runs = 0
        self._seed = seed
        self._native = native
        self._stands_still = lifetime is None
        self._people = People(seed, native=native)
        self._pins: dict[UUID, Document] = {}
        self._removed: set[UUID] = set()
        self._ordered: dict[UUID, _Run] = {}
        self._inserted = 0
        self._reads = 0
        # Most stay ranges: all contacts of all executions are millions.
        self._numbers: dict[UUID, Sequence[int]] = {}
        self._executions = executions

    # --- one of them

    def document(self, id: UUID, elapsed: float) -> Document:
        """Give an execution; a removed one is a LookupError."""
        if id in self._removed:
            raise LookupError(f"execution {id} was removed")
        pins = self._pins.get(id, {})
        status = cast("str | None", pins.get("status"))
        run = self._ordered.get(id)
        if run is None:
            return self.stories.document(id, elapsed, status) | pins
        made = self.stories.document(
            id, elapsed - run.born, status, flow=run.flow, contacts=len(run.contacts)
        )
        return made | pins

    def contact(self, id: UUID, elapsed: float) -> Document:
        """Give one contact of an execution in full; a removed one is a LookupError."""
        if id in self._removed:
            raise LookupError(f"contact {id} was removed")
        execution, number = self._people.find(id)
        document = self.document(execution, elapsed)
        return self._people.whole(self._row(execution, id, number, document), document)

    def put(self, id: UUID, fields: Document) -> None:
        """Fix fields of an execution, which exists again if it was removed."""
        self._removed.discard(id)
        self._numbers.pop(id, None)
        self._pins.setdefault(id, {}).update(fields)

    def remove(self, id: UUID) -> None:
        """Let an execution or a contact be gone, from the lists too."""
        self._pins.pop(id, None)
        self._removed.add(id)
        for execution, numbers in self._numbers.items():
            number = self._people.number(execution, id)
            if number is not None:
                self._numbers[execution] = [n for n in numbers if n != number]

    def run(self, flow: UUID, contacts: Sequence[Mapping[str, object]], elapsed: float) -> UUID:
        """Make an execution of a flow for these contacts, and give its id."""
        self.runs += 1
        id = UUID(uuid_about(self._seed, "run", self.runs))
        self._ordered[id] = _Run(flow, contacts, elapsed)
        self._pins[id] = {
            "execute_for": "LIST",
            "contact_filters": [],
            "contact_import": None,
            "created_on": date_time(elapsed),
        }
        if self._stands_still:
            self._pins[id]["status"] = "PROCESSING"
        self._listed.insert(0, id)
        return id

    # --- lists

    @cached_property
    def _listed(self) -> list[UUID]:
        """The executions of the list, newest first; made when somebody lists."""
        ids = [UUID(uuid_about(self._seed, "listed", n)) for n in range(self._executions)]
        ids.sort(key=lambda id: str(self.stories.document(id, 0.0)["created_on"]), reverse=True)
        return ids

    def executions(self, query: Mapping[str, str], begin: int, size: int, elapsed: float) -> Slice:
        """Give rows of the list of executions, of those that the query lets through."""
        wanted = _same(("flow", "flow_version"), query)
        search = query.get("search", "").lower()
        found: list[Document] = []
        for id in self._listed:
            if id in self._removed:
                continue
            document = self.document(id, elapsed)
            flow = cast(Document, document["flow"])
            if wanted(document) and search in str(flow["name"]).lower():
                found.append(document)
        return Slice([self.brief(document) for document in found[begin : begin + size]], len(found))

    def contacts(self, query: Mapping[str, str], begin: int, size: int, elapsed: float) -> Slice:
        """Give rows of the list of contacts, of those that the query lets through."""
        is_filtered = not query.keys().isdisjoint(("contact", "id", "is_active", "search"))
        rows: list[Document] = []
        count = 0
        for execution in self._executions_for(query, elapsed):
            document = self.document(execution, elapsed)
            numbers = self._order(execution, document)
            if is_filtered:
                numbers = [n for n in numbers if self._is_wanted(execution, n, document, query)]
            first, end = max(0, begin - count), max(0, begin + size - count)
            for number in numbers[first:end]:
                id = self._people.id(execution, number)
                rows.append(self._row(execution, id, number, document))
            count += len(numbers)
        return Slice(rows, count)

    def brief(self, document: Document) -> Document:
        """Make of an execution the row that a list shows."""
        left_out = {"flow", "flow_version", "contact_filters", "contact_import", "last_run_on"}
        row = {name: value for name, value in document.items() if name not in left_out}
        if not self._native:
            row["flow_version"] = cast(Document, document["flow_version"])["id"]
            person = cast("Document | None", document["status_triggered_by"])
            row["status_triggered_by"] = person and person["id"]
        return row

    def shift(self, endpoint: str, query: Mapping[str, str], mean: float, elapsed: float) -> None:
        """Insert rows at the top of a list and remove some anywhere in it, about so many of each."""
        self._reads += 1
        chance = draws(self._seed, "shift", self._reads)
        inserted, removed = (int(mean + share) for share in chance[:2])
        if endpoint == "flow-execution":
            for _ in range(inserted):
                self._inserted += 1
                id = UUID(uuid_about(self._seed, "inserted", self._inserted))
                self._pins[id] = {"created_on": date_time(elapsed)}
                self._listed.insert(0, id)
            _drop(self._listed, removed, chance[2:])
            return
        for execution in self._executions_for(query, elapsed)[:1]:
            order = list(self._order(execution, self.document(execution, elapsed)))
            for _ in range(inserted):
                self._inserted += 1
                order.insert(0, 1_000_000 + self._inserted)
            _drop(order, removed, chance[2:])
            self._numbers[execution] = order

    def _executions_for(self, query: Mapping[str, str], elapsed: float) -> list[UUID]:
        if "flow_execution" in query:
            return [id for id in (UUID(query["flow_execution"]),) if id not in self._removed]
        names = {name.removeprefix("flow_execution__"): value for name, value in query.items()}
        wanted = _same(("flow", "flow_version"), names)
        known = [id for id in self._listed if id not in self._removed]
        return [id for id in known if wanted(self.document(id, elapsed))]

    def _order(self, execution: UUID, document: Document) -> Sequence[int]:
        """The numbers of an execution's contacts, newest first."""
        numbers = self._numbers.get(execution)
        if numbers is None:
            numbers = range(cast(int, document["num_contacts"]))
            removed = {self._people.number(execution, id) for id in self._removed} - {None}
            if removed:
                numbers = [number for number in numbers if number not in removed]
            self._numbers[execution] = numbers
        return numbers

    def _is_wanted(
        self, execution: UUID, number: int, document: Document, query: Mapping[str, str]
    ) -> bool:
        row = self._row(execution, self._people.id(execution, number), number, document)
        person = cast(Document, row["contact"])
        is_active = {"true": True, "false": False}.get(query.get("is_active", "").lower())
        active = row["status"] in ("READY", "RUNNING", "PAUSED")
        words = json.dumps([person[name] for name in ("first_name", "last_name", "phone")])
        return (
            query.get("contact", person["id"]) == person["id"]
            and query.get("id", row["id"]) == row["id"]
            and is_active in (None, active)
            and json.dumps(query.get("search", "")).strip('"').lower() in words.lower()
        )

    def _row(self, execution: UUID, id: UUID, number: int, document: Document) -> Document:
        run = self._ordered.get(execution)
        given = run.contacts[number] if run is not None and number < len(run.contacts) else None
        return self._people.row(id, number, document, given)


def _same(names: Sequence[str], query: Mapping[str, str]) -> Callable[[Document], bool]:
    """A test of executions: whether what these name in them has the id that the query wants."""
    wanted = {name: query[name] for name in names if name in query}
    return lambda document: all(
        cast(Document, document[name])["id"] == value for name, value in wanted.items()
    )


def _drop(rows: "list[UUID] | list[int]", number: int, chance: Sequence[float]) -> None:
    for share in chance[:number]:
        if rows:
            del rows[int(share * len(rows))]
