"""What a reply means, as a table: no loop, no server, no mock."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilos_async import (
    AuthenticationError,
    DecodeError,
    FlowExecution,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    StatusError,
)
from hilos_async._pace.fields import retry_after
from hilos_async.testing import FakeHilos
from tests.calls import interpret

ID = UUID("a1b2c3d4-0000-4000-8000-1234567890ab")
GOOD = json.dumps(FakeHilos().document(ID)).encode()


def test_a_good_reply_is_the_execution() -> None:
    execution = interpret(200, {}, GOOD, ID)
    assert execution == FlowExecution.from_json(GOOD)
    assert execution.id == ID


def test_a_reply_without_an_id_gets_the_one_that_was_asked_for() -> None:
    body = {name: value for name, value in json.loads(GOOD).items() if name != "id"}
    assert interpret(200, {}, json.dumps(body).encode(), ID).id == ID


def test_a_reply_with_another_id_is_an_error_at_that_path() -> None:
    other = uuid4()
    with pytest.raises(DecodeError, match=str(other)) as caught:
        interpret(200, {}, GOOD.replace(str(ID).encode(), str(other).encode()), ID)
    assert caught.value.path == "$.id"


@pytest.mark.parametrize("status", [200, 201, 204, 206])
def test_an_empty_success_is_a_decode_error(status: int) -> None:
    with pytest.raises(DecodeError, match="is empty"):
        interpret(status, {}, b"", ID)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, StatusError),
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (405, StatusError),
        (410, StatusError),
        (418, StatusError),
        (429, RateLimitError),
        (500, ServerError),
        (503, ServerError),
        (599, ServerError),
        (301, StatusError),
        (304, StatusError),
    ],
)
def test_each_status_is_its_error(status: int, kind: type[StatusError]) -> None:
    with pytest.raises(StatusError) as caught:
        interpret(status, {"x-thing": "1"}, b'{"detail": "Because."}', ID)
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert caught.value.detail == "Because."
    assert caught.value.headers == {"x-thing": "1"}
    assert str(ID) in str(caught.value)


@pytest.mark.parametrize("body", [b"<html>", b'{"detail": 5}', b"\xff", b"[" * 200_000, b""])
def test_an_error_body_of_any_shape_has_no_detail_and_is_kept_short(body: bytes) -> None:
    with pytest.raises(ServerError) as caught:
        interpret(502, {}, body, ID)
    assert caught.value.detail == ""
    assert caught.value.body == body[:2_048]


@pytest.mark.parametrize(
    ("location", "named"),
    [
        ("https://evil.example/steal?x=1", "https://evil.example"),
        ("/login", "the same origin"),
        ("https://[", "no URL"),
        ("", "the same origin"),
    ],
)
def test_a_redirect_names_the_origin_it_points_to(location: str, named: str) -> None:
    with pytest.raises(StatusError, match="not followed") as caught:
        interpret(302, {"location": location}, b"", ID)
    assert f"redirect to {named};" in str(caught.value)


NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "detail", "seconds"),
    [
        ({"retry-after": "30"}, "", 30.0),
        ({"retry-after": " 7 "}, "", 7.0),
        ({"retry-after": "30.0"}, "", 30.0),
        ({"retry-after": "1.5"}, "", 2.0),
        ({"retry-after": "0.001"}, "", 1.0),
        ({"retry-after": "0.0"}, "", None),
        ({"retry-after": "1.5.1"}, "", None),
        ({"retry-after": "1e3"}, "", None),
        ({"retry-after": "30,0"}, "", 30.0),
        ({"retry-after": "5, 30"}, "", 30.0),
        ({"retry-after": "30,5"}, "", 30.0),
        ({"retry-after": "5, soon"}, "", 5.0),
        ({"retry-after": "5, Mon, 23 Nov 2026 12:00:10 GMT"}, "", 10.0),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:10 GMT, 5"}, "", 10.0),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:10 GMT, 50"}, "", 50.0),
        ({"retry-after": "Monday, 23-Nov-26 12:00:10 GMT"}, "", 10.0),
        ({"retry-after": ", ,"}, "", None),
        ({"retry-after": str(int(NOW.timestamp()) + 40)}, "", 40.0),
        ({"retry-after": f"{NOW.timestamp() + 39.5}"}, "", 40.0),
        ({"retry-after": str(int(NOW.timestamp()) - 40)}, "", None),
        (
            {"retry-after": "1420070407", "date": "Thu, 01 Jan 2015 00:00:00 GMT"},
            "",
            7.0,
        ),
        ({"retry-after": "0"}, "", None),
        ({"retry-after": "1000000000"}, "", 1e9),
        ({"retry-after": "-5"}, "", None),
        ({"retry-after": "soon"}, "", None),
        ({"retry-after": "nan"}, "", None),
        ({"retry-after": "inf"}, "", None),
        ({"retry-after": "1_0"}, "", None),
        ({"retry-after": "٣"}, "", None),
        ({"retry-after": ""}, "", None),
        ({}, "", None),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:10 GMT"}, "", 10.0),
        ({"retry-after": "Mon, 23 Nov 2026 11:00:00 GMT"}, "", None),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:10 -0000"}, "", 10.0),
        ({"retry-after": "Mon, 99 Nov 2026 12:00:10 GMT"}, "", None),
        (
            {
                "retry-after": "Thu, 01 Jan 2015 00:00:07 GMT",
                "date": "Thu, 01 Jan 2015 00:00:00 GMT",
            },
            "",
            7.0,
        ),
        ({}, "Request was throttled. Expected available in 12 seconds.", 12.0),
        ({}, "Request was throttled. Expected available in 1 second.", 1.0),
        ({}, "Request was throttled. Expected available in 0 seconds.", None),
        ({"retry-after": "9" * 400}, "", 1e10),
        ({"retry-after": "30"}, "Request was throttled. Expected available in 12 seconds.", 30.0),
    ],
)
def test_retry_after_is_read_as_a_table(
    headers: dict[str, str], detail: str, seconds: float | None
) -> None:
    assert retry_after(headers, detail, now=NOW) == seconds


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_retry_after_is_negative_or_an_exception(value: str, date: str) -> None:
    wait = retry_after({"retry-after": value, "date": date})
    assert wait is None or wait > 0
