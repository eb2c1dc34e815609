"""What the API answers to a request that the key and the limit let pass, endpoint by endpoint.

Pure: a request is a method, a path, a query and a body. Statuses, pages and refusals are those of
Django REST Framework. It does not know what a fault then makes of an answer.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from hilos_async.testing._account import Account, Slice
from hilos_async.testing._contract import parameters, query_errors, run_errors
from hilos_async.testing._replies import (
    NO_SUCH_ID,
    Reply,
    as_json,
    error,
    invalid,
    method_not_allowed,
)

LARGEST_PAGE: Final = 100
_MODELS: Final = {
    "flow-execution": "FlowExecution",
    "flow-execution-contact": "FlowExecutionContact",
    "flow": "Flow",
}


@dataclass(frozen=True, slots=True)
class Question:
    """A request as its path reads: `/{endpoint}`, `/{endpoint}/{text}` or `/flow/{text}/run`.

    `key` tells equal questions, for faults that come so many times for each; `about` is the id that
    it names, of a list the one it is filtered by.
    """

    endpoint: str
    text: str | None
    id: UUID | None
    method: str
    url: str
    query: tuple[tuple[str, str], ...] = ()
    content_type: str = ""
    body: bytes = field(default=b"", repr=False)

    @property
    def has_view(self) -> bool:
        """Whether the method is the one that the path takes."""
        return self.method == ("POST" if self.endpoint == "flow" else "GET")

    @property
    def key(self) -> object:
        """What is asked, the same each time that it is asked again."""
        if self.endpoint == "flow-execution" and self.text is not None:
            return self.id
        return self.endpoint, self.text, self.query

    @property
    def about(self) -> UUID | None:
        """The id it is about."""
        if self.text is not None:
            return self.id
        given = dict(self.query)
        for name in ("flow_execution", "flow", "flow_execution__flow"):
            if name in given:
                return uuid_or_none(given[name])
        return None


def read_path(path: str) -> tuple[str, str | None] | None:
    """Give endpoint and text of a path below the prefix; None if no view serves it."""
    match path.split("/"):
        case ["", "flow-execution" | "flow-execution-contact" as endpoint]:
            return endpoint, None
        case ["", "flow-execution" | "flow-execution-contact" as endpoint, text] if text:
            return endpoint, text
        case ["", "flow", text, "run"] if text:
            return "flow", text
        case _:
            return None


class Views:
    """Answers questions about an account, and notes what breaks the contract."""

    def __init__(self, account: Account, *, page_size: int, native: bool) -> None:
        self.violations: list[str] = []
        self.shift = 0.0
        self.next_host: str | None = None
        self._account = account
        self._page_size = page_size
        self._native = native

    def answer(self, question: Question, elapsed: float) -> Reply:
        """Give what the API answers now. A run happens here."""
        if not question.has_view:
            allowed = "POST" if question.endpoint == "flow" else "GET"
            return method_not_allowed(question.method, allowed)
        if question.text is None:
            return self._page(question, elapsed)
        self._judge(question)
        if question.id is None:
            return NO_SUCH_ID
        if question.endpoint == "flow":
            return self._run(question, question.id, elapsed)
        account = self._account
        find = account.document if question.endpoint == "flow-execution" else account.contact
        try:
            return Reply(200, as_json(find(question.id, elapsed)))
        except LookupError:
            return no_such(question.endpoint)

    def _judge(self, question: Question) -> Mapping[str, object]:
        refused, breaches = query_errors(question.endpoint, question.query, native=self._native)
        self.violations += breaches
        return refused

    def _page(self, question: Question, elapsed: float) -> Reply:
        if refused := self._judge(question):
            return invalid(refused)
        query = {name: self._normal(question, name, value) for name, value in question.query}
        size = self._page_size
        if "page_size" in parameters(question.endpoint, native=self._native):
            size = _size(query.get("page_size", ""), size)
        number = _number(query.get("page", "1"))
        if number is None:
            return error(404, "Invalid page.")
        if self.shift:
            self._account.shift(question.endpoint, query, self.shift, elapsed)
        of = self._account.executions if question.endpoint == "flow-execution" else None
        found = (of or self._account.contacts)(query, (number - 1) * size, size, elapsed)
        if number > 1 and (number - 1) * size >= found.count:
            return error(404, "Invalid page.")
        return self._written(question, found, number, size)

    def _written(self, question: Question, found: Slice, number: int, size: int) -> Reply:
        after = self._address(question, number + 1) if number * size < found.count else None
        before = self._address(question, number - 1) if number > 1 else None
        document = {"count": found.count, "next": after, "previous": before, "results": found.rows}
        return Reply(200, as_json(document))

    def _address(self, question: Question, number: int) -> str:
        origin, _, path = question.url.partition("/api/")
        query = [(name, value) for name, value in question.query if name != "page"]
        if number > 1:  # The first page has no number in its address.
            query.append(("page", str(number)))
        said = f"?{urlencode(query)}" if query else ""
        return f"{self.next_host or origin}/api/{path.partition('?')[0]}{said}"

    def _normal(self, question: Question, name: str, value: str) -> str:
        kind = parameters(question.endpoint, native=self._native).get(name)
        return str(UUID(value)) if kind == "uuid" else value

    def _run(self, question: Question, flow: UUID, elapsed: float) -> Reply:
        status, refused, breaches = run_errors(
            question.body, question.content_type, native=self._native
        )
        self.violations += breaches
        if status:
            return invalid(refused, status)
        if flow not in self._account.stories.flows:
            return no_such("flow")
        ordered = json.loads(question.body)
        id = self._account.run(flow, ordered["contact_list"], elapsed)
        document = self._account.document(id, elapsed)
        reply = self._account.brief(document)
        for name in ("created_by", "flow_version", "execution_type"):
            reply.pop(name, None)
        reply |= {
            "has_priority": ordered.get("has_priority", False),
            "contact_filters": [],
            "contact_list": ordered["contact_list"],
            "source": "API",
            "is_hidden": False,
        }
        return Reply(201, as_json(reply))


def no_such(endpoint: str) -> Reply:
    """Say that the id is unknown, as the REST framework does for each model."""
    return error(404, f"No {_MODELS[endpoint]} matches the given query.")


def uuid_or_none(text: str) -> UUID | None:
    """Read an id, if it is one."""
    try:
        return UUID(text)
    except ValueError:
        return None


def _number(text: str) -> int | None:
    try:
        number = int(text)
    except ValueError:
        return None
    return number if number >= 1 else None


def _size(text: str, usual: int) -> int:
    asked = _number(text)
    return usual if asked is None else min(asked, LARGEST_PAGE)
