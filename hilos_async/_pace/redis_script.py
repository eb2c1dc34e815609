"""How Redis is asked: the script, what it is told and what it answers.

Knows the script's numbers and its messages, and that a Redis may have forgotten it. Refuses to know
which client library it is given: it imports none. What the script does stands in ``lua/``.
"""

from __future__ import annotations

import hashlib
import sys
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from hilos_async._pace import limits, reckoning, slots, state, windows

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from hilos_async._pace.pacer import Quota

BLOCK: Final = 0.05  # seconds of slots that one call may reserve, and of use that ask for them
_SEEN: Final = 60.0  # seconds after its last slot that a process counts to those that share
_KEPT: Final = 172_800  # seconds; a nightly job finds what the last one learned

_PARTS: Final = ("state", "slots", "windows", "limits", "reckoning", "script")


def _script() -> str:
    numbers: dict[str, Any] = {"BLOCK": BLOCK, "SEEN": _SEEN, "KEPT": _KEPT}
    for module in (state, slots, windows, limits, reckoning):
        own = [name for name in module.__annotations__ if name.strip("_").isupper()]
        numbers |= {name.strip("_"): getattr(module, name) for name in own}
    head = [f"local {name} = {_lua(number)}\n" for name, number in numbers.items()]
    folder = files("hilos_async._pace").joinpath("lua")
    parts = [folder.joinpath(f"{part}.lua").read_text("utf-8") for part in _PARTS]
    return "".join([*head, *parts])


def _lua(number: float | tuple[float, ...]) -> str:
    if isinstance(number, tuple):
        return "{ " + ", ".join(map(repr, number)) + " }"
    return repr(number)


_SCRIPT: Final = _script()
_SHA: Final = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


class AsyncRedis(Protocol):
    """What is needed of a client: ``redis.asyncio`` and ``valkey.asyncio`` have it, clusters too."""

    def execute_command(self, *args: str | int | bytes) -> Awaitable[object]:
        """Send one command and return the reply."""
        ...


class Event(msgspec.Struct, omit_defaults=True):
    """A request that left, or with a verdict a reply; times are seconds before the call."""

    sent: float
    verdict: str | None = None
    received: float | None = None
    retry_after: float | None = None
    wait: float | None = None
    quota: dict[str, float] | None = None
    spread: float = 0.0


def quota_fields(quota: Quota | None) -> dict[str, float] | None:
    """What is known of a quota: JSON's null is no nil in Lua."""
    if quota is None:
        return None
    return {
        name: value for name, value in msgspec.structs.asdict(quota).items() if value is not None
    }


class Report(msgspec.Struct, omit_defaults=True):
    """What the script is told."""

    id: str
    slots: int
    number: int = 1  # of the first event; those that were heard already change nothing
    limit: tuple[float, float] | None = None  # the one given; otherwise Redis learns it
    known: tuple[float, float] | None = None  # learned earlier, should Redis have lost it
    events: list[Event] = []


class Answer(msgspec.Struct):
    """What the script says; ``waits``, ``again`` and ``pause`` are seconds from the call on."""

    again: float  # when to ask again, if there is no slot
    interval: float
    pause: float
    processes: int
    waits: list[str] = []  # until each slot
    limit: tuple[float, float] | None = None
    known: float | None = None  # requests of the limit that is known, while more are tried


async def call(client: AsyncRedis, budget: str, report: Report) -> Answer:
    """Run the script on the keys of that budget; raises one of ``redis_errors``."""
    told = msgspec.json.encode(report)
    keys = [f"{budget}:pace", f"{budget}:processes"]
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
