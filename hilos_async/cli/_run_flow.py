"""``hilos run``: start a campaign for the contacts of a file, after a question.

Knows what such a file looks like. Refuses to start anything that nobody has confirmed, and to show the
contacts: of a line that does not fit, it tells the number and the column.
"""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING, Any, Final, cast

from hilos_async._api.runs import run_body
from hilos_async.cli import _connection, _executions, _ids, _interrupt, _show
from hilos_async.cli._show import FAILED, UNKNOWN, USAGE, CommandError
from hilos_async.errors import HilosError, OutcomeUnknownError
from hilos_async.models import NewContact

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator
    from uuid import UUID

    from hilos_async.models import JSON, ExecutionBrief
    from hilos_async.session import HilosSession

SUMMARY = "start a campaign: run a flow for the contacts of a CSV file"
DESCRIPTION = """\
Run a flow for the contacts of a CSV file, which starts a campaign, and print the execution's id. The
file's first line names the columns: phone (such as +5215512345678), and as wanted first_name, last_name,
email, external_url, external_id, source, and meta.NAME for what the flow's texts use. It is started
once: what is unclear is told and not tried again (exit code 5)."""

_META: Final = "meta."
_COLUMNS: Final = (
    *("phone", "first_name", "last_name", "email", "external_url", "external_id", "native_id"),
    *("source", "wa_id"),
)
_TOLD: Final = 10  # lines that do not fit, one by one; of the rest only the number


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("flow", metavar="FLOW_ID", help="the UUID of a flow")
    parser.add_argument(
        "--contacts", required=True, metavar="FILE", help="the CSV file; - is standard input"
    )
    parser.add_argument("--yes", action="store_true", help="start without asking")
    parser.add_argument("--priority", action="store_true", help="before the account's others")


def run(options: argparse.Namespace) -> int:
    """Check, ask, start, and give the exit code."""
    [flow] = _ids.checked([options.flow], "flow")
    contacts = _contacts(options.contacts)
    try:
        run_body(contacts, has_priority=options.priority)
    except ValueError as error:
        raise CommandError(f"{options.contacts}: {error}", USAGE) from error
    connection = _connection.connect(options)
    _confirm(f"run flow {flow} at {connection.url}; contacts: {len(contacts):,}", options)
    session = connection.session
    if options.timeout is not None:
        session = session.with_options(timeout=options.timeout)
    try:
        brief = _interrupt.run(
            _start(connection.session, session, flow, contacts, options.priority)
        )
    except OutcomeUnknownError as error:
        look = f"`hilos list --flow {flow} --limit 5` shows it if it has"
        raise CommandError(f"{error}\n{look}", UNKNOWN) from error
    except HilosError as error:
        raise CommandError(
            f"{error}\nnothing was started", _executions.exit_code([error], answered=False)
        ) from error
    _show.data(f"{brief.id}\n")
    _show.message(f"started; `hilos watch {brief.id}` follows it")
    return 0


async def _start(
    opened: HilosSession,
    session: HilosSession,
    flow: UUID,
    contacts: list[NewContact],
    has_priority: bool,
) -> ExecutionBrief:
    async with opened:
        return await session.run_flow(flow, contacts, has_priority=has_priority)


def _confirm(what: str, options: argparse.Namespace) -> None:
    """Go on if the user says yes; ``CommandError`` otherwise."""
    _show.message(what)
    if options.yes:
        return
    if options.contacts == "-" or not _show.is_terminal(sys.stdin):
        raise CommandError("nobody is here to confirm it: add --yes; nothing was sent", USAGE)
    _show.note("hilos: start it? [y/N] ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes", "s", "sí", "si"):
        raise CommandError("not confirmed; nothing was sent", FAILED)


def _contacts(name: str) -> list[NewContact]:
    """The contacts of a file; ``CommandError`` that tells which lines do not fit, and why."""
    shown = "standard input" if name == "-" else name
    contacts: list[NewContact] = []
    wrong: list[str] = []
    try:
        with _ids.opened(name) as lines:
            for number, row in _numbered(lines, shown):
                try:
                    contacts.append(_contact(row))
                except ValueError as error:
                    wrong.append(f"{shown}, line {number}: {error}")
    except (OSError, csv.Error) as error:
        raise CommandError(f"the contacts cannot be read: {shown}: {error}", USAGE) from error
    if wrong:
        more = [f"and {len(wrong) - _TOLD:,} more lines"] if len(wrong) > _TOLD else []
        raise CommandError("\n".join([*wrong[:_TOLD], *more, "nothing was sent"]), USAGE)
    return contacts


def _numbered(lines: Iterable[str], shown: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(lines, strict=True)
    columns = [name.strip() for name in reader.fieldnames or ()]
    strange = [name for name in columns if name not in _COLUMNS and not name.startswith(_META)]
    if "phone" not in columns or strange:
        problem = f"no column {strange[0]!r} is known" if strange else "there is no column phone"
        raise CommandError(
            f"{shown}: {problem}; the first line names them: {', '.join(_COLUMNS)}, meta.NAME",
            USAGE,
        )
    reader.fieldnames = columns
    for row in reader:
        if None in row or None in row.values():
            raise CommandError(
                f"{shown}, line {reader.line_num}: it has not as many cells as the first", USAGE
            )
        yield reader.line_num, row


def _contact(row: dict[str, str]) -> NewContact:
    """One line; an empty cell is nothing given."""
    given = {name: cell.strip() for name, cell in row.items() if cell.strip()}
    meta = {name[len(_META) :]: cell for name, cell in given.items() if name.startswith(_META)}
    fields = {name: cell for name, cell in given.items() if name in _COLUMNS}
    if "phone" not in fields:
        raise ValueError("it has no phone")
    return NewContact(**cast("dict[str, Any]", fields), meta=cast("dict[str, JSON]", meta) or None)
