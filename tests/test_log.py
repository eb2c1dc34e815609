"""The logger `hilos_async`: silent until asked, one record for each event, fields and no secrets."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from hilos_async import (
    AuthenticationError,
    HilosError,
    RateLimit,
    RateLimitError,
    Reply,
    RetryPolicy,
    TransportError,
    _log,
)
from hilos_async._pace.known import KnownPacer
from hilos_async._pace.learning import LearningPacer
from hilos_async._wire.call import Call
from hilos_async._wire.gate import Gate
from hilos_async.redis import RedisPacer
from hilos_async.testing import FakeHilos, Fault
from tests import virtual_time
from tests.calls import a_call
from tests.markdown_blocks import ROOT
from tests.redis_server import BINARY, MISSING, RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from hilos_async import FlowExecution
pytestmark = pytest.mark.anyio

KEY = "sk-9f8e7d6c5b4a-very-secret"
QUICK = RetryPolicy(attempts=3, max_backoff=0.001)
IDS = [UUID(int=number) for number in range(1, 31)]
# A number of the fake's, but not within another: records are full of digits.
PRIVATE = re.compile(rf"{KEY}|[\w.]+@[\w.]+|(?<![\w.])\+?52155\d{{8}}(?!\w)")
assert PRIVATE.search("from +5215512345678")


class Heard:
    """The records of the library so far."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, logger="hilos_async")
        self._caplog = caplog

    def __getitem__(self, event: str) -> list[dict[str, object]]:
        """The fields of all records of that event, with their level."""
        return [
            {"level": record.levelname, **fields(record)}
            for record in self._caplog.records
            if vars(record).get("hilos_event") == event
        ]

    @property
    def records(self) -> list[logging.LogRecord]:
        return [record for record in self._caplog.records if record.name == "hilos_async"]


def fields(record: logging.LogRecord) -> dict[str, object]:
    return {
        name.removeprefix("hilos_"): value
        for name, value in vars(record).items()
        if name.startswith("hilos_") and name != "hilos_event"
    }


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> Heard:
    return Heard(caplog)


# One record for each event


async def test_a_retry_is_one_record_that_says_why_and_when(heard: Heard) -> None:
    faults = [Fault.status(503, ids=IDS[:1], times=2), Fault.reset("body", ids=IDS[1:2], times=1)]
    async with FakeHilos(faults=faults) as fake, fake.session(retry=QUICK) as hilos:
        assert await hilos.gather_executions(IDS)
        retries = heard["retry"]
        assert len(retries) == hilos.stats.retries == 3
    first, second = (one for one in retries if one["execution_id"] == str(IDS[0]))
    delay = first.pop("delay")
    assert isinstance(delay, float)
    assert 0 <= delay <= 0.001
    assert first == {
        "level": "INFO",
        "execution_id": str(IDS[0]),
        "attempt": 1,
        "error": "ServerError",
        "status": 503,
    }
    assert second["attempt"] == 2
    reset = next(one for one in retries if one["execution_id"] == str(IDS[1]))
    assert (reset["error"], reset["status"]) == ("TransportError", None)


async def test_a_pause_is_one_record_however_many_wait_for_its_end(heard: Heard) -> None:
    refusal = Fault.status(429, ids=IDS[:1], times=1)  # without Retry-After: one window's pause
    limit = RateLimit(50, per=0.05)
    async with FakeHilos(faults=[refusal]) as fake, fake.session(pace=limit) as hilos:
        assert await hilos.gather_executions(IDS)
    [pause] = heard["pause"]
    delay = pause.pop("delay")
    assert isinstance(delay, float)
    assert 0 < delay <= 0.051
    assert pause == {"level": "INFO", "error": "RateLimitError", "status": 429, "retry_after": None}
    [retry] = heard["retry"]
    assert retry["delay"] == 0.0  # the pause is everybody's


def world(clock: Callable[[], float]) -> tuple[Gate, KnownPacer]:
    pacer = KnownPacer(None, clock=clock)
    return Gate(pacer, 50, clock=clock), pacer


def call(clock: Callable[[], float]) -> Call[FlowExecution]:
    return a_call(1, None, clock(), None)


def test_a_pause_says_what_the_server_asked_for(heard: Heard) -> None:
    _log.paused(30.4, RateLimitError("x", status=429, retry_after=30.0))
    [record] = heard.records
    assert record.getMessage() == "paused for 30.40 s: RateLimitError 429, Retry-After 30 s"
    assert heard["pause"][0]["retry_after"] == 30.0


def test_a_pause_after_the_pause_is_another_record_and_a_longer_one_is_not(heard: Heard) -> None:
    async def main(clock: Callable[[], float]) -> None:
        gate, pacer = world(clock)
        first, second = call(clock), call(clock)
        await gate.enter(first)
        await gate.enter(second)
        gate.leave(first, "refused", 1.0, 1.0)
        pacer._state.until += 5.0  # as other processes may prolong it
        gate.leave(second, "refused", 1.0, 1.0)
        await gate.enter(first)  # after the pause
        assert len(heard["pause"]) == 1
        gate.leave(first, "refused", 3.0, 3.0)
        assert len(heard["pause"]) == 2

    virtual_time.run(main)


def test_a_pause_that_began_elsewhere_is_told_by_the_first_who_waits(heard: Heard) -> None:
    async def main(clock: Callable[[], float]) -> None:
        gate, pacer = world(clock)
        pacer._state.until = clock() + 3.0
        for _ in range(2):
            waiting = call(clock)
            await gate.enter(waiting)
            gate.leave(waiting, "accepted")

    virtual_time.run(main)
    [pause] = heard["pause"]
    assert pause["delay"] == pytest.approx(3.0)
    assert (pause["error"], pause["status"]) == (None, None)


def test_a_refusal_that_asks_for_too_long_is_no_pause_and_no_record(heard: Heard) -> None:
    async def main(clock: Callable[[], float]) -> None:
        gate, _ = world(clock)
        refused = call(clock)
        await gate.enter(refused)
        gate.leave(refused, "refused", 900.0, 0.0)

    virtual_time.run(main)
    assert heard.records == []


def test_a_server_that_seems_down_is_told_once_and_once_more_after_a_success(heard: Heard) -> None:
    async def main(clock: Callable[[], float]) -> None:
        gate, _ = world(clock)
        for verdict in ("failed",) * 15 + ("accepted",) + ("failed",) * 10:
            failing = call(clock)
            failing.delay = 1.0
            failing.last_error = TransportError("reset")
            await gate.enter(failing)
            gate.leave(failing, verdict)

    virtual_time.run(main)
    assert heard["server_down"] == [{"level": "WARNING", "failures": 10}] * 2
    assert {pause["error"] for pause in heard["pause"]} == {"TransportError"}


async def test_a_refused_key_is_told_once_for_a_batch(heard: Heard) -> None:
    async with FakeHilos(latency=0.01) as fake, fake.session(pace="off") as hilos:
        fake.revoke()
        with pytest.raises(AuthenticationError):
            await hilos.gather_executions(IDS)
        [refused] = heard["key_refused"]
        assert (refused["level"], refused["status"]) == ("WARNING", 401)
        assert refused["execution_id"] in [str(id) for id in IDS]
        with pytest.raises(AuthenticationError):
            await hilos.get_execution(IDS[0])
        assert len(heard["key_refused"]) == 2


async def test_a_403_after_successes_is_told_once(heard: Heard) -> None:
    """Before any success it is the key's own; afterwards something in front may refuse too many."""
    async with FakeHilos(faults=[Fault.status(403, ids=IDS[:3])]) as fake, fake.session() as hilos:
        assert (await hilos.gather_executions(IDS[:1])).errors
        assert not heard["forbidden"]
    async with FakeHilos(faults=[Fault.status(403, ids=IDS[:3])]) as fake, fake.session() as hilos:
        await hilos.get_execution(IDS[4])
        assert len((await hilos.gather_executions(IDS[:3])).errors) == 3
        [told] = heard["forbidden"]
        assert (told["level"], told["status"]) == ("WARNING", 403)


async def test_at_debug_each_request_is_a_line_and_at_info_none_is(
    heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    faults = [Fault.status(500, ids=IDS[:1], times=1), Fault.reset(ids=IDS[1:2])]
    async with FakeHilos(faults=faults) as fake, fake.session(retry=QUICK) as hilos:
        fake.put(IDS[2], id="broken")
        batch = await hilos.gather_executions(IDS)
        assert len(batch.errors) == 2
        requests = heard["request"]
        assert len(requests) == hilos.stats.requests
        of = {
            number: [
                (r["attempt"], r["status"], r["error"])
                for r in requests
                if r["execution_id"] == str(id)
            ]
            for number, id in enumerate(IDS[:4])
        }
        # One more than the policy's three: the first was on a connection that had been kept.
        reset = [(attempt, None, "TransportError") for attempt in (1, 2, 3, 4)]
        assert of == {
            0: [(1, 500, "ServerError"), (2, 200, None)],
            1: reset,
            2: [(1, None, "DecodeError")],
            3: [(1, 200, None)],
        }
        assert all(isinstance(r["seconds"], float) for r in requests)
        caplog.set_level(logging.INFO, logger="hilos_async")
        await hilos.get_execution(IDS[5])
        assert len(heard["request"]) == len(requests)


# Limits


def value(coroutine: Coroutine[object, object, float]) -> float:
    """What a coroutine returns that never waits."""
    with pytest.raises(StopIteration) as caught:
        coroutine.send(None)
    return float(caught.value.value)


def test_a_learned_limit_is_told_once_a_try_only_at_debug_and_a_new_limit_again(
    heard: Heard,
) -> None:
    now = 1_000.0
    pacer = LearningPacer(clock=lambda: now)

    def accept() -> None:
        nonlocal now
        now = max(now, value(pacer.reserve()))
        pacer.sent(now)
        pacer.report(Reply("accepted", now, now + 0.001))

    def refuse() -> None:
        nonlocal now
        pacer.sent(now)
        pacer.report(Reply("refused", now, now + 0.001, 1.0, 1.0))
        now += 2.0
        accept()

    for _ in range(50):
        pacer.sent(now)
        pacer.report(Reply("accepted", now, now + 0.001))
        now += 1 / 60
    refuse()
    told = {"level": "INFO", "requests": 50.0, "per": 1.0}
    assert heard["limit"] == [told]
    while not heard["limit_try"]:
        accept()  # a try of a little more
    assert heard["limit_try"] == [{"level": "DEBUG", "requests": 51.0, "per": 1.0}]
    refuse()  # what was known is known still
    assert heard["limit"] == [told]
    while len(heard["limit_try"]) < 3:
        accept()  # nobody refuses this try: the limit has risen
    assert [limit["requests"] for limit in heard["limit"]] == [50.0, 51.0]


@pytest.mark.skipif(BINARY is None, reason=MISSING)
async def test_what_a_fleet_learns_each_process_tells_once_and_an_outage_too(heard: Heard) -> None:
    redis_asyncio = pytest.importorskip("redis.asyncio")
    with RedisServer() as server:
        async with redis_asyncio.Redis(port=server.port) as client:
            one, other = RedisPacer(client, on_outage="share"), RedisPacer(client)
            for pacer in (one, other):
                pacer.bind("scope")
            await one.reserve()
            now = one._clock()
            for number in range(50):
                sent = now - 10.9 + 0.8 * number / 50
                one.report(Reply("accepted", sent, sent + 0.01))
            one.report(Reply("refused", now - 10.0, now - 9.99, 1.0, 1.0))
            for _ in range(2):
                await one._ask(1)  # the pause is over: the window explains the Retry-After
            await other._ask(0)
            assert one.pace().limit == other.pace().limit
            told = heard["limit"]
            assert len(told) == 2  # one each
            assert told[0] == told[1]
            assert told[0]["level"] == "INFO"
            server.kill()
            for _ in range(3):
                await one._ask(1)
            assert [gone["level"] for gone in heard["redis_gone"]] == ["WARNING"]
            server.start()
            await one._ask(1)
            assert heard["redis_back"] == [{"level": "INFO"}]


# Nothing private, and what the page says


EVERYTHING = [
    Fault.status(401, detail=f"Invalid token {KEY}.", ids=IDS[:1]),
    Fault.status(403, detail="ana@empresa.example may not, call +5215512345678", ids=IDS[1:2]),
    Fault.status(429, detail=f"{KEY} is too fast", retry_after=0, ids=IDS[2:3], times=1),
    Fault.status(500, detail="ana@empresa.example", ids=IDS[3:4]),
    Fault.body(f'{{"detail": "{KEY} ana@empresa.example"}}'.encode(), ids=IDS[4:5]),
    Fault.raw(f"HTTP/1.1 {KEY} ana@empresa.example\r\n\r\n".encode(), ids=IDS[5:6]),
    Fault.delay(9.0, ids=IDS[6:7]),
]


@pytest.mark.usefixtures("quick_time")
async def test_no_record_holds_the_key_an_address_or_a_phone_number(heard: Heard) -> None:
    async with (
        FakeHilos(KEY, faults=EVERYTHING) as fake,
        fake.session(pace="off", retry=QUICK, attempt_timeout=0.1) as hilos,
    ):
        document = str(fake.document(IDS[9]))
        assert PRIVATE.search(document), "there is something to find"
        for execution_id in IDS[:10]:
            try:
                await hilos.get_execution(execution_id)
            except HilosError:
                continue
    assert len({record.getMessage() for record in heard.records}) > 10
    for record in heard.records:
        assert not PRIVATE.search(f"{record.getMessage()} {vars(record)}")


async def test_the_page_lists_every_event_with_its_level_and_its_fields(heard: Heard) -> None:
    error = TransportError("reset")
    refused = AuthenticationError("x", status=401)
    limits = _log.LimitLog()
    limits.tell(RateLimit(5), RateLimit(6))
    _log.retry("flow-execution/1", IDS[0], 1, 0.0, error)
    _log.paused(1.0, error)
    _log.server_down(10)
    _log.key_refused("flow-execution/1", IDS[0], refused)
    _log.forbidden("flow-execution/1", IDS[0])
    _log.request("flow-execution/1", IDS[0], 1, 0.0, None)
    _log.outage(error)
    _log.outage_over()
    _log.alone(PermissionError(13, "Permission denied", "a.pace"))
    said = {(vars(r)["hilos_event"], r.levelname, frozenset(fields(r))) for r in heard.records}
    page = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([A-Z]+) \| [^|]* \|([^|]*)\|$", page, re.M)
    listed = {
        (event, level, frozenset(re.findall(r"`(\w+)`", names))) for event, level, names in rows
    }
    assert listed == said


# Who hears it: a process of its own, as pytest's handlers are on the root logger of this one

PROGRAM = """
import asyncio, logging, sys
{setup}
from hilos_async import RetryPolicy
from hilos_async.testing import FakeHilos, Fault

async def main():
    faults = [Fault.status(503, times=1)]
    async with FakeHilos(faults=faults) as fake:
        for _ in range(2):
            async with fake.session(retry=RetryPolicy(max_backoff=0.001)) as hilos:
                await hilos.get_execution("a1b2c3d4-0000-4000-8000-000000000001")

{before}
asyncio.run(main())
"""


def stderr_of(wanted: str | None, setup: str = "", before: str = "") -> str:
    program = PROGRAM.format(setup=setup, before=before)
    environment = os.environ | {"PYTHONWARNINGS": "default"}
    environment.pop("HILOS_LOG", None)
    if wanted is not None:
        environment["HILOS_LOG"] = wanted
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stderr


@pytest.mark.parametrize("wanted", [None, "", " "])
def test_without_being_asked_it_is_silent_warnings_too(wanted: str | None) -> None:
    warn = "logging.getLogger('hilos_async').warning('the API refused the key')"
    assert stderr_of(wanted, before=warn) == ""


def test_at_info_the_retry_is_on_stderr_once_and_the_requests_are_not() -> None:
    stamp, id = r"[-\d]+ [:,\d]+", r"[-\da-f]{36}"
    line = (
        rf"{stamp} INFO hilos_async: flow-execution/{id}: attempt 1 ended in ServerError 503; .*\n"
    )
    assert re.fullmatch(line, stderr_of("INFO"))


def test_at_debug_every_request_is_on_stderr_once() -> None:
    said = stderr_of("debug")
    assert re.findall(r" DEBUG hilos_async: \S+: (\d+) in", said) == ["503", "200", "200"]
    assert len(said.splitlines()) == 4


@pytest.mark.parametrize("moment", ["setup", "before"])
def test_where_the_application_has_handlers_they_show_it_and_nobody_else(moment: str) -> None:
    configure = "logging.basicConfig(format='mine %(message)s')"
    said = stderr_of("info", **{moment: configure}).splitlines()
    assert len(said) == 1
    assert said[0].startswith("mine flow-execution/")
    own = "logging.getLogger('hilos_async').addHandler(logging.StreamHandler())"
    assert len(stderr_of("info", **{moment: own}).splitlines()) == 1


def test_a_value_that_means_nothing_is_told_and_does_no_harm() -> None:
    said = stderr_of("loud")
    assert "HILOS_LOG='loud' is neither 'debug' nor 'info': ignored" in said
    assert "attempt" not in said
