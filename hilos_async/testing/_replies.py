"""What the API answers when it does not give an execution, word by word.

Pure: each reply is data. The wordings are those of Django and Django REST Framework, on which the
API runs. It does not know when a reply is due: `_server` does.
"""

import json
from collections.abc import Mapping
from typing import NamedTuple

_JSON = "application/json"


class Reply(NamedTuple):
    """A whole answer: status, body and the fields beside those every answer has."""

    status: int
    body: bytes
    content_type: str = _JSON
    headers: Mapping[str, str] = {}


def as_json(document: Mapping[str, object]) -> bytes:
    """Write a document as the API does: compact, and UTF-8 as it is."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def error(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Reply:
    """Give an error as the API words all of its own."""
    return Reply(status, as_json({"detail": detail}), _JSON, headers or {})


def unauthorized(detail: str) -> Reply:
    """Refuse the key."""
    return error(401, detail, {"WWW-Authenticate": "Token"})


def throttled(seconds: str, headers: Mapping[str, str]) -> Reply:
    """Refuse for the limit; `seconds` is what the words say."""
    unit = "second" if seconds == "1" else "seconds"
    return error(429, f"Request was throttled. Expected available in {seconds} {unit}.", headers)


def method_not_allowed(method: str, allowed: str = "GET") -> Reply:
    """Refuse every method but one."""
    return error(405, f'Method "{method}" not allowed.', {"Allow": allowed})


def invalid(errors: Mapping[str, object], status: int = 400) -> Reply:
    """Refuse what was sent, with what is wrong in each field."""
    return Reply(status, as_json(errors))


NO_CREDENTIALS = unauthorized("Authentication credentials were not provided.")
INVALID_TOKEN = unauthorized("Invalid token.")
# An id that is no UUID fails before the query, so the words are others.
NO_SUCH_ID = error(404, "Not found.")
# A path that no view serves never reaches the REST framework: Django answers, in HTML.
NO_SUCH_PATH = Reply(
    404,
    b"<!doctype html>\n<title>Not Found</title>\n<h1>Not Found</h1>"
    b"<p>The requested resource was not found on this server.</p>\n",
    "text/html; charset=utf-8",
)
