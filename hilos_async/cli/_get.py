"""``hilos get``: some executions as a table, or as JSON, one document per line.

Knows how a failed lookup is told. Refuses to know HTTP: whether the API was there at all it reads off
the errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilos_async._api.model import to_line
from hilos_async._many.batch import ExecutionBatch
from hilos_async._many.stream import Lookup
from hilos_async.cli import _executions, _ids, _interrupt, _meter, _show
from hilos_async.cli._connection import connect
from hilos_async.errors import AuthenticationError
from hilos_async.export import Record

if TYPE_CHECKING:
    import argparse
    from uuid import UUID

    from hilos_async.session import HilosSession

SUMMARY = "look up executions and show them as a table or as JSON"
DESCRIPTION = """\
Look up flow executions by their ids. On a terminal they are shown as a table, in a pipe as one plain
line each. Lookups that fail are reported on standard error, and the exit code says so."""


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
    ids = _ids.checked(options.ids)
    session = connect(options).session
    batch = _interrupt.run(_fetch(session, ids, options.timeout))
    if options.json:
        _show.data("".join(_line(id, batch) for id in ids), utf8=True)
    elif batch.executions:
        _executions.table(batch.executions.values())
    return _report(batch, in_json=options.json)


async def _fetch(session: HilosSession, ids: list[UUID], timeout: float | None) -> ExecutionBatch:
    """What became of each id; if the key is refused, that is the error of all that were left."""
    async with session as hilos:
        with _meter.Meter(len(ids), hilos) as meter:
            try:
                return await hilos.gather_executions(ids, timeout=timeout, on_progress=meter.heard)
            except AuthenticationError as error:
                had = error.batch
                batch = had if isinstance(had, ExecutionBatch) else ExecutionBatch({}, {})
                left = [id for id in ids if id not in batch.executions and id not in batch.errors]
                batch.errors.update(dict.fromkeys(left, error))
                return batch


def _line(id: UUID, batch: ExecutionBatch) -> str:
    if id in batch.executions:
        return to_line(batch.executions[id]).decode()
    return Record.of(Lookup(id, None, batch.errors[id])).to_line().decode()


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
    return _executions.exit_code(errors, answered=bool(batch.executions))
