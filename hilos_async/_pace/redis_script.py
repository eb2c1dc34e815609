"""How Redis is asked: the script, what it is told and what it answers.

Knows the script's numbers and its messages, and that a Redis may have forgotten it. Refuses to know
which client library it is given: it imports none. What the script does stands in ``redis_script.lua``.
"""

from __future__ import annotations

import hashlib
import sys
from importlib.resources import files
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from hilos_async._pace import known, learning

if TYPE_CHECKING:
    from collections.abc import Awaitable

PAD: Final = 0.01  # what the even spacing leaves of the limit: a slot that comes late fits in
BLOCK: Final = 0.05  # seconds of slots that one call may reserve, and of use that ask for them
_SEEN: Final = 60.0  # seconds after its last slot that a process counts to those that share
_KEPT: Final = 172_800  # seconds; a nightly job finds what the last one learned


def _script() -> str:
    theirs = ["FIRST_RATE", "RISK", "RISKED_SHARE", "EXPLAINS", "LOG"]
    theirs += ["MORE", "FIRST_TRY", "TRY_COST", "LONGEST_TRY"]
    numbers = {name: getattr(learning, f"_{name}") for name in theirs}
    numbers |= {name: getattr(known, f"_{name}") for name in ("CATCH_UP", "CATCH_UP_SLOTS")}
    numbers |= {"PAD": PAD, "BLOCK": BLOCK, "SEEN": _SEEN, "KEPT": _KEPT}
    head = "".join(f"local {name} = {number!r}\n" for name, number in numbers.items())
    return head + files("hilos_async._pace").joinpath("redis_script.lua").read_text("utf-8")


_SCRIPT: Final = _script()
_SHA: Final = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


class AsyncRedis(Protocol):
    """What is needed of a client: ``redis.asyncio`` and ``valkey.asyncio`` have it, clusters too."""

    def execute_command(self, *args: str | int | bytes) -> Awaitable[object]:
        """Send one command and return the reply."""
        ...


class Report(msgspec.Struct, omit_defaults=True):
    """What the script is told; times are seconds before the call (``pause``: from it on)."""

    id: str
    slots: int
    number: int  # of the next slot
    limit: tuple[float, float] | None = None  # the one given; otherwise Redis learns it
    known: tuple[float, float] | None = None  # learned earlier, should Redis have lost it
    announced: tuple[float, float] | None = None  # by header fields
    # Slot, when it arrived at the latest, and when it was sent if it was accepted.
    ended: list[list[float]] = []
    refused: list[list[float]] = []  # sent, received, and Retry-After if there was one
    trip: float | None = None  # mean seconds that the accepted took
    pause: float = 0.0


class Answer(msgspec.Struct):
    """What the script says; ``wait`` and ``pause`` are seconds from the call on."""

    slots: int
    wait: float
    interval: float
    pause: float
    processes: int
    limit: tuple[float, float] | None = None
    known: float | None = None  # requests of the limit that is known, while more are tried


async def call(client: AsyncRedis, budget: str, report: Report) -> Answer:
    """Run the script on the keys of that budget; raises one of ``redis_errors``."""
    told = msgspec.json.encode(report)
    keys = [budget, *(f"{budget}:{kind}" for kind in ("processes", "arrivals", "accepted"))]
    try:
        answer = await client.execute_command("EVALSHA", _SHA, len(keys), *keys, told)
    except redis_errors() as error:
        # redis-py and valkey-py cut the code off the message and make a class of it.
        if type(error).__name__ != "NoScriptError" and "NOSCRIPT" not in str(error):
            raise
        answer = await client.execute_command("EVAL", _SCRIPT, len(keys), *keys, told)
    assert isinstance(answer, (str, bytes))  # by the client's decode_responses
    return msgspec.json.decode(answer, type=Answer)


def redis_errors() -> tuple[type[BaseException], ...]:
    """The errors of the client libraries that are there, and those of the socket."""
    found: list[type[BaseException]] = [OSError]
    for name in ("Redis", "Valkey"):
        module = sys.modules.get(f"{name.lower()}.exceptions")
        if module is not None:  # an error of the cluster is none of the others
            found += [getattr(module, f"{name}{kind}") for kind in ("Error", "ClusterException")]
    return tuple(found)
