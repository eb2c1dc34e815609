"""``hilos get``: some executions as a table, or as JSON, one document per line.

Knows which columns a reader wants and how a failed lookup is told. Refuses to know HTTP: whether
the API was there at all it reads off the errors.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

from hilos_async._batch import ExecutionBatch
from hilos_async._config import parse_id
from hilos_async.cli import _meter, _show
from hilos_async.cli._connection import connect
from hilos_async.cli._show import FAILED, REFUSED, UNREACHABLE, USAGE, Column, CommandError
from hilos_async.errors import (
    AuthenticationError,
    DeadlineExceededError,
    InvalidIdError,
    StatusError,
)

if TYPE_CHECKING:
    import argparse
    from uuid import UUID

    from hilos_async.models import FlowExecution
    from hilos_async.session import HilosSession

SUMMARY = "look up executions and show them as a table or as JSON"
DESCRIPTION = """\
Look up flow executions by their ids. On a terminal they are shown as a table, in a pipe as one plain
line each. Lookups that fail are reported on standard error, and the exit code says so."""

_COLUMNS = (
    Column("id"),
    Column("status"),
    Column("contacts", right=True),
    Column("completed", right=True, under="contacts"),
    Column("rate", right=True),
    Column("last run", under="status"),
    Column("flow", under="id", wraps=True),
)
_ABSENT = "–"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("ids", nargs="+", metavar="ID", help="the UUID of an execution")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON document per id and line, in the order given: the execution as the API "
        'has it, or {"id": ..., "error": {"type", "message", "status"}}',
    )


def run(options: argparse.Namespace) -> int:
    """Look up, print, and say in the exit code how it went."""
    ids = _unique(options.ids)
    session = connect(options).session
    batch = asyncio.run(_fetch(session, ids, options.timeout))
    if options.json:
        _show.data("".join(_line(id, batch) for id in ids), utf8=True)
    elif batch.executions:
        _show.table(_COLUMNS, [_row(execution) for execution in batch.executions.values()])
    return _report(batch, in_json=options.json)


def _unique(texts: list[str]) -> list[UUID]:
    """The ids, each once; ``CommandError`` that names every text that is none."""
    ids: dict[UUID, None] = {}
    wrong: list[str] = []
    for text in texts:
        try:
            ids[parse_id(text)] = None
        except InvalidIdError as error:
            wrong.append(str(error))
    if wrong:
        raise CommandError("\n".join([*wrong, "nothing was looked up"]), USAGE)
    return list(ids)


async def _fetch(session: HilosSession, ids: list[UUID], timeout: float | None) -> ExecutionBatch:
    """What became of each id; if the key is refused, that is the error of all that were left."""
    async with session as hilos:
        with _meter.Meter(len(ids), hilos) as meter:
            try:
                return await hilos.gather_executions(ids, timeout=timeout, on_progress=meter.heard)
            except AuthenticationError as error:
                batch = error.batch or ExecutionBatch({}, {})
                left = [id for id in ids if id not in batch.executions and id not in batch.errors]
                batch.errors.update(dict.fromkeys(left, error))
                return batch


def _row(execution: FlowExecution) -> list[str]:
    rate = execution.completion_rate
    return [
        str(execution.id),
        str(execution.status),
        f"{execution.num_contacts:,}",
        f"{execution.completed:,}",
        _ABSENT if rate is None else f"{rate:.1%}",
        _last_run(execution),
        execution.flow.name,
    ]


def _last_run(execution: FlowExecution) -> str:
    moment = execution.last_run
    if moment is None:
        return execution.last_run_on or _ABSENT  # the native deployment may send any text
    # A year that the local clock cannot show stays in the API's zone.
    with contextlib.suppress(OverflowError, OSError, ValueError):
        moment = moment.astimezone()
    return f"{moment:%Y-%m-%d %H:%M}"


def _line(id: UUID, batch: ExecutionBatch) -> str:
    if id in batch.executions:
        return f"{batch.executions[id].to_json().decode()}\n"
    error = batch.errors[id]
    told = {
        "type": type(error).__name__,
        "message": str(error),
        "status": error.status if isinstance(error, StatusError) else None,
    }
    return f"{json.dumps({'id': str(id), 'error': told}, ensure_ascii=False)}\n"


def _report(batch: ExecutionBatch, *, in_json: bool) -> int:
    """Tell the failures, where the JSON does not; the exit code."""
    errors = list(dict.fromkeys(batch.errors.values()))  # a refused key is told once
    if not errors:
        return 0
    if not in_json:
        for error in errors:
            _show.message(str(error))
    if in_json or len(batch) > 1:
        _show.message(f"{len(batch.errors)} of {len(batch)} lookups failed")
    if any(isinstance(error, AuthenticationError) for error in errors):
        return REFUSED
    answered = bool(batch.executions) or any(_is_sensible(error) for error in errors)
    return FAILED if answered else UNREACHABLE


def _is_sensible(error: BaseException | None) -> bool:
    """Whether the API was there and refused in words of its own, as no other web server does."""
    if isinstance(error, DeadlineExceededError):
        error = error.__cause__
    return isinstance(error, StatusError) and 400 <= error.status < 500 and bool(error.detail)
