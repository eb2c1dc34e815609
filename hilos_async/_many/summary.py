"""Totals over executions: one row for all, or one for each flow.

Knows counters, rates and time zones. Refuses to know where executions come from.
"""

from __future__ import annotations

import contextlib
import html
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING

import msgspec

from hilos_async._api.model import Model

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hilos_async._api.objects import FlowExecution

_COUNTS = ("contacts", "completed", "running", "failed", "expired", "canceled")


class SummaryRow(Model, frozen=True, kw_only=True):
    """Totals over some executions; counters count contacts, ``ended`` counts executions.

    ``flow_id`` and ``flow`` (its name) are ``None`` in a row over all flows. ``first_created_on`` and
    ``last_change_on`` are in the summary's time zone (but for the first and the last day that a calendar
    has), ``None`` where no execution has the date.
    """

    flow_id: str | None
    flow: str | None
    executions: int
    ended: int
    contacts: int
    completed: int
    running: int
    failed: int
    expired: int
    canceled: int
    first_created_on: datetime | None
    last_change_on: datetime | None

    @property
    def completion_rate(self) -> float | None:
        """The share of contacts that completed; ``None`` without contacts."""
        return self.completed / self.contacts if self.contacts else None

    @property
    def failure_rate(self) -> float | None:
        """The share of contacts that failed; ``None`` without contacts."""
        return self.failed / self.contacts if self.contacts else None


class Summary(Model, frozen=True):
    """A table of totals: prints as one, and gives its rows to a DataFrame."""

    rows: tuple[SummaryRow, ...]

    def to_rows(self) -> list[dict[str, str | int | float | datetime | None]]:
        """Each row as a dict of plain values, the rates included: ``DataFrame(summary.to_rows())``."""
        return [
            msgspec.structs.asdict(row)
            | {"completion_rate": row.completion_rate, "failure_rate": row.failure_rate}
            for row in self.rows
        ]

    def __str__(self) -> str:
        table = self._table()
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if place == 0 else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in table
        )

    def to_html(self) -> str:
        """The same table as HTML, as a notebook shows it; names of flows are escaped."""
        header, *rows = (
            [html.escape(cell) for cell in line]  # a flow may be called <script>
            for line in self._table()
        )
        head = "".join(f"<th>{cell}</th>" for cell in header)
        body = "".join(
            f"<tr><th>{line[0]}</th>{''.join(f'<td>{cell}</td>' for cell in line[1:])}</tr>"
            for line in rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _repr_html_(self) -> str:
        return self.to_html()

    def _table(self) -> list[tuple[str, ...]]:
        table: list[tuple[str, ...]] = [("flow", "executions", "ended", *_COUNTS, "completion")]
        for row in self.rows:
            rate = "" if row.completion_rate is None else f"{row.completion_rate:.1%}"
            counts = (f"{getattr(row, name):,}" for name in _COUNTS)
            name = row.flow or row.flow_id or "all flows"
            table.append((name, f"{row.executions:,}", f"{row.ended:,}", *counts, rate))
        return table


def summarize(executions: Iterable[FlowExecution], tz: tzinfo | str) -> Summary:
    """One row over all executions."""
    return Summary((_row(list(executions), zone_of(tz), None, None),))


def summarize_by_flow(executions: Iterable[FlowExecution], tz: tzinfo | str) -> Summary:
    """One row for each flow, those with the most contacts first."""
    zone = zone_of(tz)
    flows: dict[str, list[FlowExecution]] = {}
    for execution in executions:
        flows.setdefault(execution.flow.id, []).append(execution)
    rows = [_row(group, zone, id, group[-1].flow.name) for id, group in flows.items()]
    return Summary(tuple(sorted(rows, key=lambda row: -row.contacts)))


def zone_of(tz: tzinfo | str) -> tzinfo:
    """The time zone, or that of the name; ``ValueError`` for a name of none."""
    if isinstance(tz, tzinfo):
        return tz
    if tz == "UTC":
        return UTC  # also where the system has no database of time zones
    if not isinstance(tz, str):
        raise TypeError(f"tz must be a time zone or the name of one, not {type(tz).__name__}")
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # here: it reads files when imported

    try:
        return ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # "America" is a directory there
        raise ValueError(f"tz={tz!r} is no time zone; one is 'America/Mexico_City'") from error


def in_zone(moment: datetime, zone: tzinfo) -> datetime:
    """The moment in the zone; as it is, where the zone would need a year before 1 or after 9999."""
    with contextlib.suppress(OverflowError, ValueError):
        return moment.astimezone(zone)
    return moment


def _row(
    executions: Sequence[FlowExecution], zone: tzinfo, flow_id: str | None, flow: str | None
) -> SummaryRow:
    created = [e.created_on for e in executions if e.created_on is not None]
    changed = [date for e in executions if (date := e.status_last_change_on or e.last_run_on)]
    return SummaryRow(
        flow_id=flow_id,
        flow=flow,
        executions=len(executions),
        ended=sum(e.is_terminal for e in executions),
        contacts=sum(e.num_contacts for e in executions),
        completed=sum(e.completed for e in executions),
        running=sum(e.running for e in executions),
        failed=sum(e.failed for e in executions),
        expired=sum(e.expired for e in executions),
        canceled=sum(e.canceled for e in executions),
        first_created_on=in_zone(min(created), zone) if created else None,
        last_change_on=in_zone(max(changed), zone) if changed else None,
    )
