"""FakeHilos as its users meet it: over the socket, with a client that is not this library's.

All but one test ask without `HilosSession`: the fake is what that is tested against, so it is
tested alone.
"""

import asyncio
import contextlib
import gc
import json
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import aiohttp
import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilos_async.testing import FakeHilos, FakeLimit, Fault

pytestmark = pytest.mark.anyio

SPACE = UUID("7c1d5e9a-0d3b-4b52-9d0e-1f6f0a4b8c33")
IDS = [uuid5(SPACE, str(number)) for number in range(2_000)]
ONE, TWO = IDS[:2]
ENDED = {"COMPLETED", "CANCELED"}


def words(text: str) -> set[str]:
    return set(text.split())


ORDER = ["PROCESSING", "READY", "AWAITING_CONFIRMATION", "CONFIRMED", "STARTING", "RUNNING"]
USER = {"first_name", "last_name", "email", "id", "profile_image", "role"}
BOTH = words(
    "status execute_for id has_priority flow_execution_variables start_on num_contacts "
    "expired running completed canceled failed created_on avg_completion_time created_by "
    "contact_filters contact_import flow flow_version last_run_on"
)
ACTIVECAMPAIGN = BOTH | {"status_reason", "status_triggered_by", "status_last_change_on"}
NATIVE = BOTH | {
    "execution_type",
    "inbound_trigger_with",
    "inbound_start_message",
    "inbound_start_message_match_exact",
}


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Reply:
    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def ask(
    fake: FakeHilos,
    id: UUID | str = ONE,
    *,
    path: str = "/flow-execution/",
    method: str = "GET",
    headers: dict[str, str] | None = None,
    client: aiohttp.ClientSession | None = None,
) -> Reply:
    if client is None:
        async with aiohttp.ClientSession() as client:
            return await ask(fake, id, path=path, method=method, headers=headers, client=client)
    given = {"Authorization": f"Token {fake.token}"} if headers is None else headers
    url = f"{fake.base_url}{path}{id}"
    async with client.request(method, url, headers=given) as response:
        return Reply(response, await response.read())


def port_of(fake: FakeHilos) -> int:
    return int(fake.base_url.removesuffix("/api").rpartition(":")[2])


async def until(happened: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not happened():  # noqa: ASYNC110 (nobody tells when a server's task is gone)
            await asyncio.sleep(0.001)


async def shut(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def raw(fake: FakeHilos, id: UUID = ONE) -> tuple[bytes, bool]:
    """Ask over a bare socket: the bytes that came, and whether a reset ended them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(fake))
    try:
        writer.write(
            f"GET /api/flow-execution/{id} HTTP/1.1\r\nHost: fake\r\n"
            f"Authorization: Token {fake.token}\r\nConnection: close\r\n\r\n".encode()
        )
        came = b""
        try:
            while some := await reader.read(65_536):
                came += some
        except ConnectionResetError:
            return came, True
        return came, False
    finally:
        await shut(writer)


# --- documents


async def test_the_same_document_for_an_id_every_time_and_in_every_process() -> None:
    async with FakeHilos(seed=7) as fake:
        first, again = await ask(fake), await ask(fake, str(ONE).upper())
    assert first.status == 200
    assert first.headers["Content-Type"] == "application/json"
    assert first.json["id"] == str(ONE)
    assert first.body == again.body
    script = (
        "import sys, json; from hilos_async.testing import FakeHilos;"
        f"print(json.dumps(FakeHilos(seed=7).document('{ONE}')))"
    )
    other = await anyio.to_thread.run_sync(
        lambda: subprocess.run(
            [sys.executable, "-c", script], capture_output=True, check=True, timeout=60
        )
    )
    assert json.loads(other.stdout) == first.json
    assert FakeHilos(seed=8).document(ONE) != first.json


@pytest.mark.parametrize("native", [False, True])
def test_documents_have_the_fields_of_their_contract(native: bool) -> None:
    fake = FakeHilos(native=native)
    flow = words(
        "id name created_by created_on is_active status is_legacy channel flow_execution_variables"
    )
    version = words(
        "id flow is_current_version version_name version_description published_by "
        "created_on last_updated_on num_contacts completed expired running canceled failed "
        "avg_completion_time"
    )
    flow |= set() if native else {"trigger_type", "trigger_config"}
    version |= {"execution_type"} if native else set()
    for id in IDS[:200]:
        document: Any = fake.document(id)
        assert document.keys() == (NATIVE if native else ACTIVECAMPAIGN)
        assert document["flow"].keys() == flow
        assert document["flow_version"].keys() == version
        assert document["flow_version"]["flow"] == document["flow"]
        assert document["created_by"].keys() == USER
        role = document["created_by"]["role"]
        assert isinstance(role, str) if native else role is None or isinstance(role, int)
        assert 1_500 < len(json.dumps(document)) < 5_000


def test_counters_agree_and_statuses_are_spread() -> None:
    fake = FakeHilos()
    documents: list[Any] = [fake.document(id) for id in IDS]
    for document in documents:
        counted = sum(
            document[name] for name in ("completed", "running", "failed", "expired", "canceled")
        )
        assert counted <= document["num_contacts"]
        if document["status"] in ENDED:
            assert counted == document["num_contacts"]
            assert document["running"] == 0
    spread = Counter(document["status"] for document in documents)
    assert set(spread) == {*ORDER, *ENDED}
    assert spread.most_common(1)[0][0] == "COMPLETED"
    assert 20 < len({document["flow"]["id"] for document in documents}) <= 40


def test_date_times_have_microseconds_and_an_offset_and_durations_are_django_s() -> None:
    fake = FakeHilos()
    durations = set[str]()
    for id in IDS[:300]:
        document: Any = fake.document(id)
        for name in ("created_on", "last_run_on", "start_on", "status_last_change_on"):
            if document[name] is not None:
                assert document[name][19] == "."
                assert datetime.fromisoformat(document[name]).utcoffset() == timedelta(hours=-6)
        durations.add(document["avg_completion_time"])
    assert any(" " in text for text in durations), "some take days"
    assert "00:00:00" in durations
    assert any("." in text for text in durations)


def test_a_document_given_out_can_be_changed_without_harm() -> None:
    fake = FakeHilos()
    document: Any = fake.document(ONE)
    before = json.dumps(document)
    document["flow"]["name"] = "changed"
    assert json.dumps(fake.document(ONE)) == before


# --- executions that move, and those put by hand


def test_executions_move_in_order_at_their_own_pace_and_all_end() -> None:
    fake = FakeHilos(lifetime=60.0)
    changes: Counter[int] = Counter()
    endings: Counter[str] = Counter()
    for id in IDS[:100]:
        seen: list[str] = []
        last: dict[str, int] = {}
        for tick in range(241):
            document: Any = fake.document(id, at=tick / 4)
            if not seen or seen[-1] != document["status"]:
                seen.append(document["status"])
                changes[tick // 4] += 1
            for name in ("completed", "failed", "expired"):
                assert document[name] >= last.get(name, 0)
                last[name] = document[name]
        assert seen[:-1] == ORDER
        assert seen[-1] in ENDED
        endings[seen[-1]] += 1
        assert fake.document(id, at=1e9) == fake.document(id, at=60.0)
    assert 0 < endings["CANCELED"] < endings["COMPLETED"]
    del changes[0]
    assert max(changes.values()) < 0.1 * sum(changes.values()), "they change together"


async def test_movement_follows_the_clock_since_the_start() -> None:
    clock = Clock()
    fake = FakeHilos(lifetime=10.0, clock=clock)
    clock.now += 500
    async with fake:
        assert (await ask(fake)).json["status"] == "PROCESSING"
        clock.now += 10
        assert (await ask(fake)).json["status"] in ENDED


async def test_put_fixes_an_execution_and_remove_takes_it_away() -> None:
    async with FakeHilos(lifetime=0.001) as fake:
        fake.put(ONE, status="RUNNING", num_contacts=9_999_999)
        running = (await ask(fake)).json
        assert running["status"] == "RUNNING"
        assert running["num_contacts"] == 9_999_999
        assert 0 < running["completed"] + running["running"] < 9_999_999
        fake.put(ONE, status="A_NEW_WORD")
        assert (await ask(fake)).json["num_contacts"] == 9_999_999
        assert (await ask(fake)).json["status"] == "A_NEW_WORD"
        fake.put(ONE, id=str(TWO))
        assert (await ask(fake)).json["id"] == str(TWO)
        fake.remove(str(ONE))
        gone = await ask(fake)
        assert gone.status == 404
        assert gone.json == {"detail": "No FlowExecution matches the given query."}
        with pytest.raises(LookupError, match=str(ONE)):
            fake.document(ONE)
        fake.put(ONE)
        assert (await ask(fake)).json == FakeHilos(lifetime=0.001).document(ONE, at=1)
        assert (await ask(fake, TWO)).status == 200


@pytest.mark.parametrize("status", [*ORDER, *sorted(ENDED), "PAUSED"])
def test_a_status_that_is_put_has_counters_to_match(status: str) -> None:
    fake = FakeHilos()
    for id in IDS[:50]:
        fake.put(id, status=status)
        document: Any = fake.document(id)
        done = document["completed"] + document["failed"] + document["expired"]
        assert document["status"] == status
        assert (document["canceled"] > 0) == (status == "CANCELED")
        if status == "COMPLETED":
            assert done == document["num_contacts"]
        elif status in ORDER[:-1]:
            assert done == document["running"] == 0
        if status != "RUNNING":
            assert document["running"] == 0


def test_put_refuses_what_is_no_field_and_what_is_no_json() -> None:
    fake = FakeHilos()
    with pytest.raises(
        TypeError, match=r"no field 'complete' in this contract; it has .*completed"
    ):
        fake.put(ONE, complete=3)
    with pytest.raises(TypeError, match="execution_type"):
        fake.put(ONE, execution_type="API")
    with pytest.raises(TypeError, match="not JSON serializable"):
        fake.put(ONE, created_on=datetime.now())
    with pytest.raises(ValueError, match="not 'abc'"):
        fake.put("abc")


# --- who may ask, and for what


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ({}, "Authentication credentials were not provided."),
        ({"Authorization": "Bearer fake-hilos-key"}, "Authentication credentials were not"),
        ({"Authorization": "Token wrong"}, "Invalid token."),
        ({"Api-Token": "wrong"}, "Invalid token."),
        ({"Token": "Token wrong"}, "Invalid token."),
        ({"Authorization": "Token fake-hilos-key"}, None),
        ({"Token": "Token fake-hilos-key"}, None),
        ({"Api-Token": "fake-hilos-key"}, None),
    ],
)
async def test_the_key_is_checked_wherever_it_may_stand(
    headers: dict[str, str], detail: str | None
) -> None:
    async with FakeHilos() as fake:
        reply = await ask(fake, headers=headers)
        if detail is None:
            assert reply.status == 200
        else:
            assert reply.status == 401
            assert reply.headers["WWW-Authenticate"] == "Token"
            assert reply.json["detail"].startswith(detail)
        assert (fake.requests, fake.accepted) == (1, int(detail is None))


async def test_a_revoked_key_is_refused_from_then_on() -> None:
    async with FakeHilos("another-key") as fake:
        assert (await ask(fake)).status == 200
        fake.revoke()
        assert (await ask(fake)).json == {"detail": "Invalid token."}


async def test_paths_and_methods_that_are_not_served() -> None:
    async with FakeHilos() as fake:
        for path, id in [
            ("/flow-execution/", f"{ONE}/"),
            ("/flow-executions", ""),
            ("/flow/", str(ONE)),
            ("/../flow-execution/", str(ONE)),
        ]:
            reply = await ask(fake, id, path=path)
            assert (reply.status, reply.headers["Content-Type"][:9]) == (404, "text/html")
        assert fake.asked == {}
        no_uuid = await ask(fake, "42")
        assert (no_uuid.status, no_uuid.json) == (404, {"detail": "Not found."})
        posted = await ask(fake, method="POST")
        assert posted.status == 405
        assert posted.headers["Allow"] == "GET"
        assert posted.json == {"detail": 'Method "POST" not allowed.'}


# --- limits, over the socket


async def test_a_refusal_over_the_socket() -> None:
    clock = Clock()
    async with FakeHilos(limit=FakeLimit(2, per=60.0), clock=clock) as fake:
        assert [(await ask(fake)).status for _ in range(3)] == [200, 200, 429]
        clock.now += 10.5
        refused = await ask(fake)
        assert refused.headers["Retry-After"] == "50"
        assert refused.json == {
            "detail": "Request was throttled. Expected available in 50 seconds."
        }
        clock.now += 49
        assert (await ask(fake)).json["detail"].endswith("in 1 second.")
        assert (fake.requests, fake.accepted, fake.refused) == (5, 2, 3)
        clock.now += 0.5
        assert (await ask(fake)).status == 200


async def test_a_limit_changes_while_running_and_keeps_what_it_accepted() -> None:
    clock = Clock()
    async with FakeHilos(clock=clock) as fake:
        assert fake.limit is None
        fake.limit = FakeLimit(5)
        assert [(await ask(fake)).status for _ in range(6)] == [200] * 5 + [429]
        fake.limit = FakeLimit(7)
        assert [(await ask(fake)).status for _ in range(3)] == [200, 200, 429]
        fake.limit = FakeLimit(2)
        assert (await ask(fake)).status == 429
        clock.now += 1
        assert [(await ask(fake)).status for _ in range(3)] == [200, 200, 429]
        fake.limit = None
        assert (await ask(fake)).status == 200


@pytest.mark.parametrize(
    ("style", "expected", "refused"),
    [
        ("none", {}, {}),
        (
            "split",
            {"RateLimit-Limit": "5", "RateLimit-Remaining": "4", "RateLimit-Reset": "2"},
            {"RateLimit-Remaining": "0"},
        ),
        (
            "policy",
            {"RateLimit-Policy": '"account";q=5;w=2', "RateLimit": '"account";r=4;t=2'},
            {"RateLimit": '"account";r=0;t=2'},
        ),
        (
            "x",
            {"X-RateLimit-Limit": "5", "X-RateLimit-Remaining": "4"},
            {"X-RateLimit-Remaining": "0"},
        ),
        ("activecampaign", {"RateLimit-Limit": "5"}, {"RateLimit-Remaining": "3"}),
    ],
)
async def test_header_fields_about_the_limit(
    style: Any, expected: dict[str, str], refused: dict[str, str]
) -> None:
    async with FakeHilos(limit=FakeLimit(5, per=2.0, headers=style), clock=Clock()) as fake:
        replies = [await ask(fake) for _ in range(6)]
        assert expected.items() <= dict(replies[0].headers).items()
        assert refused.items() <= dict(replies[5].headers).items()
        if style == "none":
            assert not any("ratelimit" in name.lower() for name in replies[0].headers)
        if style == "x":
            reset = float(replies[0].headers["X-RateLimit-Reset"])
            assert 0 <= reset - time.time() <= 3


@pytest.mark.parametrize(
    ("advice", "told"), [("none", None), (30, "30"), (0, "0"), (2.5, "2.5"), (1e9, "1000000000")]
)
async def test_retry_after_as_ordered(advice: Any, told: str | None) -> None:
    async with FakeHilos(limit=FakeLimit(1, per=9.0, retry_after=advice), clock=Clock()) as fake:
        await ask(fake)
        refused = await ask(fake)
        assert refused.headers.get("Retry-After") == told
        assert f"available in {told or 9} second" in refused.json["detail"]


# --- limits, in virtual time


def test_the_sliding_log_counts_what_was_accepted_in_the_last_window() -> None:
    limiter = FakeLimit(2, per=1.0).start()
    assert limiter.ask(0.0) is None
    assert limiter.ask(0.5) is None
    assert limiter.ask(0.75) == 0.25
    assert limiter.ask(1.0) is None, "a request leaves the log exactly one window later"
    assert limiter.ask(1.0) == 0.5, "the refused one was not counted"


def test_the_fixed_window_begins_at_multiples_of_its_length() -> None:
    limiter = FakeLimit(2, per=10.0, kind="fixed-window").start()
    assert [limiter.ask(t) for t in (9.0, 9.5, 9.75)] == [None, None, 0.25]
    assert [limiter.ask(t) for t in (10.0, 10.0, 10.0)] == [None, None, 10.0]


def test_the_bucket_lets_a_burst_pass_and_refills_evenly() -> None:
    limiter = FakeLimit(5, per=1.0, kind="bucket").start()
    assert [limiter.ask(0.0) for _ in range(5)] == [None] * 5
    assert limiter.ask(0.0) == pytest.approx(0.2)
    assert limiter.ask(0.2) is None
    assert limiter.ask(0.3) == pytest.approx(0.1)
    assert [limiter.ask(9.0) for _ in range(6)][4:] == [None, pytest.approx(0.2)]


def test_a_lock_out_is_not_prolonged_by_what_it_refuses() -> None:
    limiter = FakeLimit(1, per=1.0, lockout=30.0).start()
    assert limiter.ask(0.0) is None
    assert limiter.ask(0.5) == 30.0
    assert limiter.ask(20.0) == 10.5
    assert limiter.headers(20.0, epoch=0) == {}
    assert limiter.ask(30.5) is None
    assert limiter.ask(30.75) == 30.0
    limiter.change(FakeLimit(1))
    assert limiter.ask(31.5) is None, "without a lock-out there is none"


def test_a_lock_out_shorter_than_the_window_tells_the_longer_wait() -> None:
    limiter = FakeLimit(1, per=60.0, lockout=5.0, headers="split").start()
    limiter.ask(0.0)
    assert limiter.ask(1.0) == 59.0
    assert limiter.headers(1.0, epoch=0)["RateLimit-Remaining"] == "0"
    assert limiter.ask(60.0) is None


@pytest.mark.parametrize("kind", ["sliding-log", "sliding-counter", "fixed-window", "bucket"])
@given(
    requests=st.integers(1, 20),
    per=st.floats(0.01, 100),
    steps=st.lists(st.floats(0, 1), max_size=150),
)
def test_a_limiter_keeps_its_promises(
    kind: Any, requests: int, per: float, steps: list[float]
) -> None:
    limiter = FakeLimit(requests, per=per, kind=kind, headers="split").start()
    now, accepted = 50.0, list[float]()
    for step in steps:
        now += step * 3 * per / requests
        headers = limiter.headers(now, epoch=0)
        wait = limiter.ask(now)
        assert (wait is None) == (headers["RateLimit-Remaining"] != "0")
        if wait is not None:
            assert wait > 0
            now += wait + 1e-9 * now
            assert limiter.ask(now) is None, "what it said is not what it does"
        accepted.append(now)
    slack = 1e-6 * (now + per)
    for first in accepted:
        here = sum(first <= moment < first + per - slack for moment in accepted)
        assert here <= requests * (1 if kind == "sliding-log" else 2)


# --- faults


async def test_status_faults_look_like_the_api_s_errors() -> None:
    faults = [
        Fault.status(503, ids=[ONE], times=1, retry_after=7),
        Fault.status(302, ids=[ONE], times=1, headers={"Location": "http://example.com/"}),
        Fault.status(500, ids=[ONE], times=1, detail="boom"),
        Fault.status(599, ids=[ONE], times=1),
        Fault.status(204, ids=[ONE], times=1),
    ]
    async with FakeHilos(faults=faults) as fake, aiohttp.ClientSession() as client:
        headers = {"Authorization": f"Token {fake.token}"}
        url = f"{fake.base_url}/flow-execution/{ONE}"
        replies = list[Reply]()
        for _ in range(6):
            async with client.get(url, headers=headers, allow_redirects=False) as response:
                replies.append(Reply(response, await response.read()))
        assert [reply.status for reply in replies] == [503, 302, 500, 599, 204, 200]
        assert replies[0].headers["Retry-After"] == "7"
        assert replies[0].json == {"detail": "Service Unavailable."}
        assert replies[1].headers["Location"] == "http://example.com/"
        assert replies[2].json == {"detail": "boom"}
        assert replies[3].json == {"detail": "Status 599."}
        assert replies[4].body == b""
        assert (fake.faulted, fake.accepted) == (5, 6)


async def test_a_body_fault_replaces_the_document() -> None:
    html = Fault.body(b"<html>", content_type="text/html", status=502, times=1)
    gzip = Fault.body(b"not gzip", headers={"Content-Encoding": "gzip"})
    async with FakeHilos(faults=[html, gzip]) as fake:
        reply = await ask(fake)
        assert (reply.status, reply.body) == (502, b"<html>")
        assert reply.headers["Content-Type"] == "text/html"
        with pytest.raises(aiohttp.ClientPayloadError):
            await ask(fake)


async def test_resets_are_real_ones() -> None:
    async with FakeHilos(faults=[Fault.reset("before")]) as fake:
        assert await raw(fake) == (b"", True)
        with pytest.raises(aiohttp.ClientOSError):
            await ask(fake)
        fake.faults = [Fault.reset("headers")]
        came, reset = await raw(fake)
        assert reset
        assert came.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\n\r\n" not in came
        with pytest.raises(aiohttp.ClientOSError):
            await ask(fake)
        fake.faults = [Fault.reset("body")]
        came, reset = await raw(fake)
        assert reset
        head, body = came.split(b"\r\n\r\n")
        assert b"Content-Length" in head
        assert body.startswith(b'{"status":')
        with pytest.raises(aiohttp.ClientPayloadError):
            await ask(fake)
        fake.faults.clear()
        assert (await ask(fake)).status == 200


async def test_truncation_closes_in_good_order() -> None:
    async with FakeHilos(faults=[Fault.truncate()]) as fake:
        came, reset = await raw(fake)
        assert not reset
        head, body = came.split(b"\r\n\r\n")
        whole = len(json.dumps(fake.document(ONE), ensure_ascii=False, separators=(",", ":")))
        promised = int(head.split(b"Content-Length: ")[1])
        assert promised >= whole
        assert len(body) == promised // 2
        for fault in (
            Fault.truncate(),
            Fault.truncate(0),
            Fault.truncate(chunked=True),
            Fault.truncate(0, chunked=True),
        ):
            fake.faults = [fault]
            with pytest.raises(aiohttp.ClientPayloadError):
                await ask(fake)
        fake.faults = [Fault.raw(b"")]
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await ask(fake)
        fake.faults = [Fault.raw(b"SSH-2.0-OpenSSH_9.6\r\n")]
        with pytest.raises(aiohttp.ClientResponseError):
            await ask(fake)


async def test_a_delay_is_the_answer_later() -> None:
    async with FakeHilos(faults=[Fault.delay(0.05, ids=[ONE])], latency=0.01) as fake:
        started = time.monotonic()
        assert (await ask(fake)).status == 200
        assert time.monotonic() - started >= 0.05
        started = time.monotonic()
        assert (await ask(fake, TWO)).status == 200
        assert time.monotonic() - started >= 0.01


async def test_a_client_that_leaves_during_a_delay_or_before_a_fault_leaves_nothing() -> None:
    async with FakeHilos(faults=[Fault.delay(60)]) as fake:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await ask(fake)
        await until(lambda: not fake.in_flight and not fake.open_connections)


async def statuses(fake: FakeHilos, order: list[UUID]) -> dict[UUID, list[int]]:
    seen: dict[UUID, list[int]] = {}
    async with aiohttp.ClientSession() as client:
        for id in order:
            seen.setdefault(id, []).append((await ask(fake, id, client=client)).status)
    return seen


async def test_a_share_does_not_depend_on_the_order_of_requests() -> None:
    ids = IDS[:150]
    faults = [Fault.status(503, share=0.2), Fault.status(500, share=0.2)]
    async with FakeHilos(faults=faults) as fake:
        forth = await statuses(fake, ids * 2)
        assert 60 < fake.faulted < 150
    async with FakeHilos(faults=faults) as fake:
        back = await statuses(fake, [id for id in reversed(ids) for _ in range(2)])
    async with FakeHilos(faults=faults, seed=1) as fake:
        other = await statuses(fake, ids * 2)
    assert forth == back != other
    found = Counter(status for both in forth.values() for status in both)
    assert found[503] > 30
    assert found[500] > 20
    assert any(first != second for first, second in forth.values())


async def test_times_is_for_each_id_and_for_each_fault() -> None:
    faults = [Fault.status(503, times=1), Fault.status(503, times=1)]
    async with FakeHilos(faults=faults) as fake:
        seen = await statuses(fake, [ONE, TWO, ONE, TWO, ONE, TWO])
    assert seen == {ONE: [503, 503, 200], TWO: [503, 503, 200]}


async def test_what_the_key_or_the_limit_refuses_is_hit_by_no_fault() -> None:
    fault = Fault.status(503, times=1)
    async with FakeHilos(limit=FakeLimit(1), faults=[fault], clock=Clock()) as fake:
        assert (await ask(fake, headers={})).status == 401
        assert (await ask(fake)).status == 503
        assert (await ask(fake)).status == 429
        assert (fake.accepted, fake.refused, fake.faulted) == (1, 1, 1)


async def test_a_removed_execution_can_be_hit_too() -> None:
    async with FakeHilos(faults=[Fault.status(500, times=1)]) as fake:
        fake.remove(ONE)
        assert [(await ask(fake)).status for _ in range(2)] == [500, 404]


# --- counting


async def test_it_counts_what_it_was_asked() -> None:
    clock = Clock()
    async with FakeHilos(latency=0.02, clock=clock) as fake, aiohttp.ClientSession() as client:
        async with asyncio.TaskGroup() as tasks:
            for id in (ONE, ONE, TWO):
                tasks.create_task(ask(fake, id, client=client))
            await until(lambda: fake.in_flight == 3)
        assert fake.asked == {ONE: 2, TWO: 1}
        assert (fake.requests, fake.in_flight, fake.max_in_flight) == (3, 0, 3)
        assert (fake.connections, fake.open_connections) == (3, 3)
        assert Counter(fake.arrivals) == {(1_000.0, ONE): 2, (1_000.0, TWO): 1}
        await ask(fake, ONE, client=client)
        assert fake.connections == 3, "connections are kept alive"
        fake.reset_counts()
        assert (fake.requests, fake.max_in_flight, fake.connections) == (0, 0, 0)
        assert not fake.asked
        assert not fake.arrivals
    assert fake.open_connections == 0


# --- starting and leaving


@pytest.fixture
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()


@pytest.mark.usefixtures("no_warnings")
async def test_leaving_is_quick_with_requests_in_flight(caplog: pytest.LogCaptureFixture) -> None:
    before = asyncio.all_tasks()
    big = Fault.body(b"x" * 10_000_000, ids=[TWO])
    async with aiohttp.ClientSession() as client:
        async with FakeHilos(faults=[big, Fault.delay(60)]) as fake:
            asks = [asyncio.ensure_future(ask(fake, id, client=client)) for id in IDS[2:20]]
            url = f"{fake.base_url}/flow-execution/{TWO}"
            headers = {"Authorization": f"Token {fake.token}"}
            unread = await client.get(url, headers=headers)
            idle = await asyncio.open_connection("127.0.0.1", port_of(fake))
            await until(lambda: fake.in_flight == 18)
            started = time.monotonic()
        assert time.monotonic() - started < 30  # half of the delay, and of any patience
        assert fake.in_flight == fake.open_connections == 0
        results = await asyncio.gather(*asks, return_exceptions=True)
        assert all(isinstance(result, aiohttp.ClientError) for result in results)
        unread.close()
        await shut(idle[1])
        with pytest.raises(aiohttp.ClientConnectorError):
            await ask(fake, client=client)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert [record for record in caplog.records if record.name != "asyncio"] == []


@pytest.mark.usefixtures("no_warnings")
async def test_leaving_in_a_cancelled_scope_closes_too() -> None:
    before = asyncio.all_tasks()
    async with aiohttp.ClientSession() as client:
        fake = FakeHilos(faults=[Fault.delay(60)])
        with anyio.move_on_after(0.05) as scope:
            async with fake:
                await ask(fake, client=client)
        assert scope.cancelled_caught
        await until(lambda: asyncio.all_tasks() == before)
        with pytest.raises(aiohttp.ClientConnectorError):
            await ask(fake, client=client)


@pytest.mark.parametrize("turns", range(8))
async def test_leaving_while_connections_arrive_leaks_none(turns: int) -> None:
    async with aiohttp.ClientSession() as client:
        async with FakeHilos() as fake:
            asks = [asyncio.ensure_future(ask(fake, id, client=client)) for id in IDS[:80]]
            for _ in range(turns):
                await asyncio.sleep(0)
        assert fake.open_connections == 0
        with anyio.fail_after(60):
            await asyncio.gather(*asks, return_exceptions=True)
    gc.collect()  # A socket that leaked is a ResourceWarning, and that an error.


async def test_it_makes_sessions_for_itself() -> None:
    async with FakeHilos() as fake, fake.session(timeout=5.0) as hilos:
        assert (await hilos.get_execution(ONE)).id == ONE


async def test_it_can_run_again_but_not_twice_at_once() -> None:
    fake = FakeHilos()
    with pytest.raises(RuntimeError, match="async with"):
        _ = fake.base_url
    async with fake:
        assert fake.base_url.startswith("http://127.0.0.1:")
        assert fake.base_url.endswith("/api")
        with pytest.raises(RuntimeError, match="already"):
            await fake.__aenter__()
    await fake.__aexit__(None, None, None)
    port = port_of(fake)
    async with FakeHilos(port=port) as same:
        assert same.base_url == fake.base_url
        with pytest.raises(OSError, match="in use"):
            await FakeHilos(port=port).__aenter__()
    async with fake:
        assert (await ask(fake)).status == 200
        assert fake.requests == 1


async def test_it_listens_on_loopback_only() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.com"):
        with pytest.raises(ValueError, match="loopback"):
            FakeHilos(host=host)
    FakeHilos(host="localhost")
    try:
        async with FakeHilos(host="::1") as fake:
            assert "//[::1]:" in fake.base_url
            assert (await ask(fake)).status == 200
    except OSError:
        pytest.skip("no IPv6 on this machine")


@pytest.mark.parametrize(
    "options",
    [
        {"token": ""},
        {"token": " key"},
        {"latency": -1},
        {"latency": float("nan")},
        {"lifetime": 0},
        {"lifetime": float("inf")},
    ],
)
def test_options_that_make_no_sense_are_refused(options: Any) -> None:
    with pytest.raises(ValueError, match="FakeHilos"):
        FakeHilos(**options)


@pytest.mark.parametrize("options", [{"limit": 5}, {"faults": [503]}])
def test_options_of_another_type_are_refused(options: Any) -> None:
    with pytest.raises(TypeError, match="FakeHilos"):
        FakeHilos(**options)


@pytest.mark.parametrize(
    ("requests", "options"),
    [
        (0, {}),
        (1, {"per": 0}),
        (1, {"per": float("inf")}),
        (1, {"kind": "dripping"}),
        (1, {"headers": "all"}),
        (1, {"lockout": -1}),
        (1, {"retry_after": "soon"}),
        (1, {"retry_after": -3}),
    ],
)
def test_limits_that_make_no_sense_are_refused(requests: int, options: Any) -> None:
    with pytest.raises(ValueError, match="FakeLimit"):
        FakeLimit(requests, **options)


def test_a_limit_takes_a_whole_number() -> None:
    with pytest.raises(TypeError, match=r"not 2\.5"):
        FakeLimit(2.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (Fault.reset, {"share": 0}),
        (Fault.reset, {"share": 1.1}),
        (Fault.reset, {"ids": []}),
        (Fault.reset, {"ids": ["abc"]}),
        (Fault.reset, {"times": 0}),
        (Fault.reset, {"where": "after"}),
        (Fault.status, {"code": 99}),
        (Fault.truncate, {"keep": 1}),
        (Fault.delay, {"seconds": -1}),
        (Fault.delay, {"seconds": float("nan")}),
        (Fault, {"kind": "flood"}),
    ],
)
def test_faults_that_hit_nothing_or_make_no_sense_are_refused(make: Any, options: Any) -> None:
    with pytest.raises(ValueError, match="Fault"):
        make(**options)


def test_one_id_is_not_a_list_of_ids() -> None:
    with pytest.raises(TypeError, match="several ids"):
        Fault.reset(ids=str(ONE))
