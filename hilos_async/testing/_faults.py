"""What goes wrong on purpose: which requests a fault hits, and what it does to them.

A fault is plain data; who is hit is decided by a hash, never by a generator with a state, so a run
repeats whatever the order of its requests. It knows no socket: `_wire` carries it out.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal, get_args
from uuid import UUID

from hilos_async.testing._chance import draws

FaultKind = Literal["status", "reset", "truncate", "delay", "body", "raw"]
Where = Literal["before", "headers", "body"]
Ids = Iterable[UUID | str]


# Compared by identity: two equal faults in one list are two faults, each with its own `times`.
@dataclass(frozen=True, kw_only=True, eq=False)
class Fault:
    """One thing that goes wrong: made with `Fault.status`, `.reset`, `.truncate` and so on.

    Every fault hits a `share` (above 0, at most 1) of the lookups, of these `ids` only if they are
    given, and at most `times` times for each id. Which ones `share` means depends on the seed of
    the fake, the fault's place in the list, the id and how often that id was asked for: not on the
    order in which ids come. Only requests that the key and the limit let pass are hit. A page of a
    list counts as one id for `times`, and is about the execution or flow that the list is filtered
    by; a run is about its flow.
    """

    kind: FaultKind
    share: float = 1.0
    ids: frozenset[UUID] | None = None
    times: int | None = None
    code: int = 200
    content: bytes = b""
    content_type: str = "application/json"
    detail: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    where: Where = "before"
    keep: float = 0.5
    chunked: bool = False
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(FaultKind):
            raise ValueError(f"Fault kind is one of {get_args(FaultKind)}, not {self.kind!r}")
        if not 0 < self.share <= 1:
            raise ValueError(f"Fault(share=...) is above 0 and at most 1, not {self.share!r}")
        if self.ids is not None and not self.ids:
            raise ValueError("Fault(ids=...) is empty: the fault would hit nothing")
        if self.times is not None and self.times < 1:
            raise ValueError(f"Fault(times=...) is at least 1 or None, not {self.times!r}")
        if not 200 <= self.code <= 599:
            raise ValueError(f"Fault takes an HTTP status from 200 to 599, not {self.code!r}")
        if self.where not in get_args(Where):
            raise ValueError(f"Fault.reset(where=...) is one of {get_args(Where)}")
        if not 0 <= self.keep < 1:
            raise ValueError(f"Fault.truncate(keep=...) is from 0 to below 1, not {self.keep!r}")
        if not (math.isfinite(self.seconds) and self.seconds >= 0):
            raise ValueError(f"Fault.delay takes seconds from 0, not {self.seconds!r}")

    @property
    def refuses(self) -> bool:
        """Whether it is a refusal that says that nothing was done: a 4xx other than 408."""
        return self.kind in ("status", "body") and 400 <= self.code < 500 and self.code != 408

    @classmethod
    def status(
        cls,
        code: int,
        *,
        detail: str | None = None,
        retry_after: float | str | None = None,
        headers: Mapping[str, str] | None = None,
        share: float = 1.0,
        ids: Ids | None = None,
        times: int | None = None,
    ) -> "Fault":
        """Answer with this status and `{"detail": ...}`, as the API's own errors look.

        `retry_after` is sent as it is given, so it can be a date or nonsense too.
        """
        fields = dict(headers or {})
        if retry_after is not None:
            fields["Retry-After"] = str(retry_after)
        if detail is None:
            detail = _DETAILS.get(code) or _phrase(code)
        return cls(
            kind="status",
            code=code,
            detail=detail,
            headers=fields,
            share=share,
            ids=_only(ids),
            times=times,
        )

    @classmethod
    def body(
        cls,
        content: bytes,
        *,
        content_type: str = "application/json",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        share: float = 1.0,
        ids: Ids | None = None,
        times: int | None = None,
    ) -> "Fault":
        """Answer with these bytes instead of an execution."""
        return cls(
            kind="body",
            content=content,
            content_type=content_type,
            code=status,
            headers=dict(headers or {}),
            share=share,
            ids=_only(ids),
            times=times,
        )

    @classmethod
    def reset(
        cls,
        where: Where = "before",
        *,
        share: float = 1.0,
        ids: Ids | None = None,
        times: int | None = None,
    ) -> "Fault":
        """Reset the connection: before any byte, in the middle of the headers or of the body."""
        return cls(kind="reset", where=where, share=share, ids=_only(ids), times=times)

    @classmethod
    def truncate(
        cls,
        keep: float = 0.5,
        *,
        chunked: bool = False,
        share: float = 1.0,
        ids: Ids | None = None,
        times: int | None = None,
    ) -> "Fault":
        """Send only the share `keep` (0 to below 1) of the body, then close in good order.

        The length promised is the whole one; `chunked` leaves out the last chunk instead.
        """
        return cls(
            kind="truncate", keep=keep, chunked=chunked, share=share, ids=_only(ids), times=times
        )

    @classmethod
    def delay(
        cls,
        seconds: float,
        *,
        share: float = 1.0,
        ids: Ids | None = None,
        times: int | None = None,
    ) -> "Fault":
        """Answer as always, but so many (real) seconds later."""
        return cls(kind="delay", seconds=seconds, share=share, ids=_only(ids), times=times)

    @classmethod
    def raw(
        cls,
        content: bytes,
        *,
        share: float = 1.0,
        ids: Ids | None = None,
        times: int | None = None,
    ) -> "Fault":
        """Send these bytes in place of the whole reply, status line and all, then close."""
        return cls(kind="raw", content=content, share=share, ids=_only(ids), times=times)


class FaultPicker:
    """Decides which fault, if any, hits a lookup; remembers how often each id came and was hit."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._asked: Counter[object] = Counter()
        self._hits: Counter[tuple[Fault, object]] = Counter()

    def pick(self, faults: Sequence[Fault], asked: object, id: UUID | None) -> Fault | None:
        """Give the first of `faults` that hits what is `asked` now, which is about `id`."""
        nth = self._asked[asked]
        self._asked[asked] += 1
        for place, fault in enumerate(faults):
            if fault.ids is not None and id not in fault.ids:
                continue
            if self._hit(fault, place, asked, nth):
                if fault.times is not None:
                    self._hits[fault, asked] += 1
                return fault
        return None

    def _hit(self, fault: Fault, place: int, asked: object, nth: int) -> bool:
        if fault.times is not None and self._hits[fault, asked] >= fault.times:
            return False
        return fault.share == 1 or draws(self._seed, "fault", place, asked, nth)[0] < fault.share


def _only(ids: Ids | None) -> frozenset[UUID] | None:
    if isinstance(ids, (str, UUID)):
        raise TypeError(f"Fault(ids=...) takes several ids: write ids=[{str(ids)!r}]")
    if ids is None:
        return None
    return frozenset(id if isinstance(id, UUID) else _uuid(id) for id in ids)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except (ValueError, AttributeError, TypeError):
        raise ValueError(f"Fault(ids=...) takes UUIDs, not {text!r}") from None


# What Django REST Framework says by itself; other statuses say their reason phrase.
_DETAILS = {
    401: "Invalid token.",
    403: "You do not have permission to perform this action.",
    404: "No FlowExecution matches the given query.",
    429: "Request was throttled.",
    500: "A server error occurred.",
}


def _phrase(code: int) -> str:
    try:
        return f"{HTTPStatus(code).phrase}."
    except ValueError:
        return f"Status {code}."
