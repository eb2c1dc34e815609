"""What a reply's header fields say of waiting and of limits: pure functions of text."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from hilos_async._pace.pacer import Quota

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_WAIT: Final = 1e10  # seconds; finite, since JSON for Redis knows no infinity
_EPOCH: Final = 1_000_000_000  # a reset of 30 years of seconds is a point in time
_SECONDS = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_ONE_OF_SEVERAL = re.compile(r"[A-Za-z]+,[^,]*|[^,]+")  # a date has a comma after its day
_NEAR: Final = 604_800  # seconds, a week: a number that is about now is a point in time
# DRF says it in words too, and the words survive proxies that drop the header.
_DRF_WAIT = re.compile(r"available in (\d+) second", re.ASCII)


def retry_after(
    headers: Mapping[str, str], detail: str = "", now: datetime | None = None
) -> float | None:
    """The seconds that a reply asks to wait, more than 0 and finite; ``None`` if it does not say.

    Reads ``Retry-After`` as seconds or as a date (RFC 9110 section 10.2.3), and what servers write
    beside that: a fraction, which is rounded up, an epoch, and several values, of which the longest
    counts. A moment is measured against the reply's own ``Date``, so that a wrong local clock does not
    matter. Also reads DRF's throttling text.
    """
    here = _http_date(headers.get("date", "")) or now or datetime.now(UTC)
    waits = [
        _wait(value, here) for value in _ONE_OF_SEVERAL.findall(headers.get("retry-after", ""))
    ]
    known = [wait for wait in waits if wait is not None]
    if not known and (said := _DRF_WAIT.search(detail)):
        known = [float(said.group(1))]
    longest = min(max(known, default=0.0), _LONGEST_WAIT)
    return longest if longest > 0 else None


def _wait(value: str, here: datetime) -> float | None:
    """The seconds from ``here`` that one value asks to wait; ``None`` if it says nothing."""
    value = value.strip()
    if _SECONDS.fullmatch(value):
        seconds = min(float(value), _LONGEST_WAIT)
        ahead = seconds - here.timestamp()
        return float(math.ceil(ahead if abs(ahead) < _NEAR else seconds))
    date = _http_date(value)
    return None if date is None else (date - here).total_seconds()


def _http_date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)


def read_quota(headers: Mapping[str, str]) -> Quota | None:
    """What the header fields of a reply say of a rate limit; ``None`` if there are none.

    Reads ``RateLimit`` and ``RateLimit-Policy`` of the IETF drafts (``"a";r=3;t=1``,
    ``"a";q=50;w=1``), what earlier drafts wrote (``limit=50, remaining=3, reset=1``, ``50;w=1``),
    and the split ``RateLimit-Limit``, ``-Remaining``, ``-Reset``, with or without ``X-``. Of several
    policies the slowest counts.
    """
    policy, current = headers.get("ratelimit-policy"), headers.get("ratelimit")
    if policy is not None or current is not None:
        limits = [found for part in (policy or "").split(",") if (found := _policy(part))]
        requests, per = min(limits, key=lambda limit: limit[0] / limit[1], default=(None, None))
        current = current or ""
        return Quota(
            requests or _number(current, "limit"),
            per,
            _number(current, "r", "remaining"),
            _number(current, "t", "reset"),
        )
    for prefix in ("x-ratelimit-", "ratelimit-"):
        limit = headers.get(f"{prefix}limit")
        remaining = headers.get(f"{prefix}remaining")
        if limit is not None or remaining is not None:
            limit = limit or ""
            requests, per = _policy(limit) or (_first_number(limit), None)
            left = _first_number(remaining or "")
            return Quota(requests, per, left, _reset(headers.get(f"{prefix}reset"), headers))
    return None


def _policy(text: str) -> tuple[int, float] | None:
    """``"name";q=50;w=1`` or ``50;w=1`` as requests and seconds."""
    window = _number(text, "w")
    requests = _number(text, "q") or _first_number(text.split(";")[0].split(",")[0])
    return (requests, float(window)) if requests and window else None


def _number(text: str, *names: str) -> int | None:
    found = re.search(rf"(?:^|[;,\s])(?:{'|'.join(names)})=(\d{{1,12}})\b", text, re.ASCII)
    return int(found.group(1)) if found else None


def _first_number(text: str) -> int | None:
    found = re.match(r"\s*(\d{1,12})\b", text, re.ASCII)
    return int(found.group(1)) if found else None


def _reset(text: str | None, headers: Mapping[str, str]) -> float | None:
    """Seconds until the reset; a large number is an epoch, and counts from the reply's own Date."""
    number = _first_number(text or "")
    if number is None or number < _EPOCH:
        return number
    here = _http_date(headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, number - here.timestamp())
