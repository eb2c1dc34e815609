"""Both writings of the reckoning of a pace, side by side: Python's, and the script that Redis runs."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import redis

from hilos_async import Reply
from hilos_async._pace import redis_script
from hilos_async._pace.state import Refusal, State
from tests.redis_server import BINARY, MISSING, RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hilos_async.testing._limits import FakeLimiter

HISTORIES = int(os.environ.get("HISTORIES", "100"))
TICK = 2.0**-12  # seconds; times are whole numbers of it, so that no difference is ever rounded


class Scripted:
    """The script, by a clock that a test sets, and what it keeps."""

    def __init__(self, client: redis.Redis) -> None:
        asks = "redis.call('TIME')"
        assert redis_script._SCRIPT.count(asks) == 1
        self.script = redis_script._SCRIPT.replace(asks, "{ ARGV[2], 0 }")
        self.sha = hashlib.sha1(self.script.encode()).hexdigest()
        self.client = client
        client.script_load(self.script)
        self.key = "state"

    def call(self, now: float, report: redis_script.Report) -> redis_script.Answer:
        answer = self.client.evalsha(
            self.sha, 2, self.key, f"{self.key}:p", msgspec.json.encode(report), repr(now)
        )
        return msgspec.json.decode(answer, type=redis_script.Answer)

    def state(self) -> State:
        """What it keeps, as the state that it should be."""
        packed: Any = self.client.get(self.key)
        kept = msgspec.msgpack.decode(packed)
        kept["until"] = kept.pop("till")
        for own in ("last", "ahead", "heard"):
            del kept[own]
        for name in ("reserved", "flying", "replies", "log"):
            kept[name] = kept[name] or []  # an empty table is a map to it
        refused = kept.pop("refused", None)
        state = msgspec.convert(kept, State)
        if refused is not None:
            refused.setdefault("retry_after", None)
            state.refused = Refusal(**refused)
        return state


def started() -> Iterator[Scripted]:
    """The script in a Redis of its own."""
    if BINARY is None:
        pytest.skip(MISSING)
    with RedisServer() as server, redis.Redis(port=server.port) as client:
        yield Scripted(client)


def answered(server: FakeLimiter, at: float, sent: float, received: float) -> Reply:
    """The reply to a request that reaches a server at that time."""
    early = server.ask(at)
    if early is None:
        return Reply("accepted", sent, received)
    said = server.limit.advice(early)
    wait = None if said is None else float(said)
    return Reply("refused", sent, received, wait, wait)


def fields(now: float, reply: Reply, spread: float) -> redis_script.Event:
    return redis_script.Event(
        now - reply.sent,
        reply.verdict,
        now - reply.received,
        reply.retry_after,
        reply.wait,
        redis_script.quota_fields(reply.quota),
        spread,
    )


def compare(
    state: State,
    slot: float | None,
    now: float,
    scripted: Scripted,
    report: redis_script.Report,
    where: str,
) -> None:
    """Tell the script what the state was told, and compare what both know then."""
    answer = scripted.call(now, report)
    assert msgspec.structs.asdict(scripted.state()) == msgspec.structs.asdict(state), where
    if report.slots:
        waits = [now + float(wait) for wait in answer.waits]
        assert waits == ([] if slot is None else pytest.approx([slot], abs=1e-9)), where
