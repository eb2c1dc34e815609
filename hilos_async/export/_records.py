"""The NDJSON file of an export: one line for each id; of two lines of one id the later one counts.

Knows lines: how one is appended whole, what a crash can leave of the last one, where each id's line
is. Refuses to know who asks for executions, and to touch a file that is no export.
"""

from __future__ import annotations

import contextlib
import os
from itertools import chain
from typing import TYPE_CHECKING, Final, Generic, Literal, Protocol, TypeVar
from uuid import UUID

import msgspec

from hilos_async import _checks
from hilos_async._api.model import to_line
from hilos_async.enums import FlowExecutionContactStatus, FlowExecutionStatus
from hilos_async.errors import InvalidIdError, StatusError
from hilos_async.export._files import ExportError, replacing, sync_directory
from hilos_async.models import ExecutionContact, FlowExecution

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator
    from pathlib import Path

    from hilos_async._many.stream import Lookup
    from hilos_async.errors import HilosError

Key = bytes | str
"""An id in 16 bytes, a third of a ``UUID``'s memory; or the text that is none."""

_BEGINNING: Final = b'{"id":"'


class ErrorNote(msgspec.Struct, frozen=True):
    """A failed lookup as a line tells it; ``status`` is the HTTP status, if there was one."""

    type: str
    message: str
    status: int | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of an export: an id with its execution or its error."""

    id: str
    execution: FlowExecution | None = None
    error: ErrorNote | None = None

    @classmethod
    def of(cls, lookup: Lookup) -> Record:
        """The line that tells what became of a lookup."""
        return cls(id=text_of(lookup.id), execution=lookup.execution, error=note_of(lookup.error))

    def to_line(self) -> bytes:
        """The record as JSON and a newline, the only one that any reader can find in it."""
        return to_line(self)

    @property
    def ending(self) -> Ending | None:
        """How it ended for the id; ``None`` for what is no such line."""
        return _ending(self.execution, self.error)


class ContactRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of an export of contacts: a row of an execution's list.

    Or, under an ``id`` that says so in words, that the contacts of an execution are all there
    (``walked`` of them), or the error in which its list has ended.
    """

    id: str
    execution_id: str | None = None
    contact: ExecutionContact | None = None
    walked: int | None = None
    error: ErrorNote | None = None

    def to_line(self) -> bytes:
        """The record as JSON and a newline, the only one that any reader can find in it."""
        return to_line(self)

    @property
    def ending(self) -> Ending | None:
        """How it ended for the id; ``None`` for what is no such line."""
        return _contact_ending(self.contact, self.walked, self.error)


Ending = Literal["error", "unended", "ended"]
R = TypeVar("R", Record, ContactRecord)


class _Ends(Protocol):
    @property
    def is_terminal(self) -> bool: ...


def _ending(found: _Ends | None, error: ErrorNote | None) -> Ending | None:
    if (found is None) is (error is None):
        return None
    if found is None:
        return "error"
    return "ended" if found.is_terminal else "unended"


def _contact_ending(
    contact: _Ends | None, walked: int | None, error: ErrorNote | None
) -> Ending | None:
    if walked is not None:
        return "ended" if contact is None and error is None else None
    return _ending(contact, error)


def note_of(error: HilosError | None) -> ErrorNote | None:
    """An error as a line tells it."""
    if error is None:
        return None
    status = error.status if isinstance(error, StatusError) else None
    return ErrorNote(type(error).__name__, str(error), status)


def text_of(given: object) -> str:
    """An id as a line has it: JSON has no half of a surrogate pair, a command line may."""
    return str(given).encode(errors="replace").decode()


def key_of(given: object) -> Key:
    """What tells ids apart: all spellings of a UUID are one."""
    try:
        return _checks.parse_id(given).bytes
    except InvalidIdError:
        return text_of(given)


def id_of(key: Key) -> UUID | str:
    """The id to ask for."""
    return UUID(bytes=key) if isinstance(key, bytes) else key


class _Glimpsed(msgspec.Struct, frozen=True):
    status: FlowExecutionStatus

    @property
    def is_terminal(self) -> bool:
        return self.status.is_terminal


class _GlimpsedContact(msgspec.Struct, frozen=True):
    status: FlowExecutionContactStatus | None = None

    @property
    def is_terminal(self) -> bool:
        return self.status is not None and self.status.is_terminal


class _Line(msgspec.Struct, frozen=True):
    """What has to be known of each line there is: the rest is skipped, which is quicker."""

    id: str
    execution: _Glimpsed | None = None
    error: ErrorNote | None = None
    # Not of such an export: a file of contacts is none of executions, and the other way round.
    contact: object = None
    walked: int | None = None

    @property
    def ending(self) -> Ending | None:
        if self.contact is not None or self.walked is not None:
            return None
        return _ending(self.execution, self.error)


class _ContactLine(msgspec.Struct, frozen=True):
    id: str
    contact: _GlimpsedContact | None = None
    walked: int | None = None
    error: ErrorNote | None = None
    execution: object = None

    @property
    def ending(self) -> Ending | None:
        if self.execution is not None:
            return None
        return _contact_ending(self.contact, self.walked, self.error)


_LINES: Final[dict[type, msgspec.json.Decoder[_Line] | msgspec.json.Decoder[_ContactLine]]] = {
    Record: msgspec.json.Decoder(_Line),
    ContactRecord: msgspec.json.Decoder(_ContactLine),
}


class Records(Generic[R]):
    """The file, open for appending, and an index of the ids in it: some 130 bytes of memory each.

    Reading it mends what a crash may leave: a torn last line is cut off, and a line that a power cut
    has damaged counts as not there. Raises ``ExportError`` for a file that is no export, and
    ``OSError``.
    """

    def __init__(self, path: Path, kind: type[R]) -> None:
        self.path = path
        self._glimpse = _LINES[kind]
        self._decoder: msgspec.json.Decoder[R] = msgspec.json.Decoder(kind)
        self._places: dict[Key, int] = {}
        self._errors: set[Key] = set()
        self._unended: set[Key] = set()
        self._end = 0
        self._superseded = 0  # lines that do not count
        is_new = not path.exists()
        if not is_new and not path.is_file():
            raise ExportError(f"{path} is no regular file", path=path)
        self._file = path.open("ab", buffering=0)
        try:
            self._opened = os.fstat(self._file.fileno())
            self._read()
            if is_new:
                sync_directory(path.parent)
        except BaseException:
            self._file.close()
            raise

    # --- what is there

    def __contains__(self, key: Key) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[Key]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def is_settled(self, key: Key, *, retry_errors: bool, refresh: bool) -> bool:
        """Whether an id need not be asked: it is there, and is not to be asked again."""
        if key not in self._places:
            return False
        if isinstance(key, str):
            return True  # it will not become an id
        return not (retry_errors and key in self._errors) and not (refresh and key in self._unended)

    def is_error(self, key: Key) -> bool:
        """Whether an id has ended in an error."""
        return key in self._errors

    def errors_among(self, keys: Container[Key]) -> int:
        """How many of these ids have ended in an error."""
        return sum(key in keys for key in self._errors)

    def in_order(self, keys: Iterable[Key], also: Container[Key]) -> Iterator[R]:
        """The records of these ids in their order, then those of whatever is not in ``also``."""
        others = (key for key in self._places if key not in also)
        with self.path.open("rb") as file:
            for key in chain(keys, others):
                file.seek(self._places[key])
                try:
                    record = self._decoder.decode(file.readline())
                except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
                    raise self._not_ours(
                        f"the line of {id_of(key)} cannot be read: {error}"
                    ) from error
                if key_of(record.id) != key:
                    raise self._changed()
                yield record

    # --- reading

    def _read(self) -> None:
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    self._index(line, number)
                    self._end += len(line)
                else:
                    self._mend(line, number)
                    break  # what it has written is no line to be read

    def _index(self, line: bytes, number: int) -> None:
        try:
            seen = self._glimpse.decode(line)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            seen = None
        ending = None if seen is None else seen.ending
        if seen is not None and ending is not None:
            self._place(key_of(seen.id), ending)
        elif _is_damaged(line) and seen is None:
            self._superseded += 1
        else:
            raise self._not_ours(f"its line {number} is none of an export")

    def _mend(self, line: bytes, number: int) -> None:
        """Cut off a torn last line; one that lacks nothing but its newline is completed."""
        try:
            self._glimpse.decode(line)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            if not _is_damaged(line):
                raise self._not_ours(f"its line {number} is none of an export") from None
            self._file.truncate(self._end)
        else:
            self._index(line, number)
            self._file.write(b"\n")
            self._end += len(line) + 1

    def _not_ours(self, why: str) -> ExportError:
        return ExportError(
            f"{self.path} is there, and {why}: it is left as it is; choose another name, or move it "
            "away",
            path=self.path,
        )

    def _changed(self) -> ExportError:
        kept = f"{len(self._places):,} ids were in it"
        return ExportError(
            f"something else has changed {self.path} during the export ({kept}): it is left as it is; "
            "the same export goes on from what is in it now",
            path=self.path,
        )

    def check(self) -> None:
        """Raise ``ExportError`` if the file is not the one that was read and written here.

        The lock keeps other exports off, but no editor, no ``mv``, and on some network drives nobody.
        """
        try:
            now = self.path.stat()
        except FileNotFoundError:
            raise self._changed() from None
        if not os.path.samestat(now, self._opened) or now.st_size != self._end:
            raise self._changed()

    # --- writing

    def append(self, record: R) -> None:
        """Add the line of a record, with one write: a killed process leaves no half of it behind.

        (A full disk may; then it is cut off at once, and a power cut may, which reading mends.)
        """
        line = record.to_line()
        ending = record.ending
        assert ending is not None
        written = 0
        try:
            while written < len(line):
                written += self._file.write(line[written:])
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(self._end)
            raise
        self._place(key_of(record.id), ending)
        self._end += len(line)

    def _place(self, key: Key, ending: Ending) -> None:
        """Remember where the line of an id begins: at the end, as it is now."""
        self._superseded += key in self._places
        self._places[key] = self._end
        for keys, meant in ((self._errors, "error"), (self._unended, "unended")):
            if ending == meant:
                keys.add(key)
            else:
                keys.discard(key)

    def sync(self) -> None:
        """Put on the disk what only the system has so far: it survives a kill, but no power cut."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file for appending, all of it on the disk."""
        if not self._file.closed:
            with self._file:
                self.sync()

    def compact(self) -> None:
        """Leave one line for each id, in one step; the file must be closed for appending.

        Until that step the old file stands, in which the later line of an id counts. Raises
        ``ExportError`` if the file is no longer the one that was read, which then stands too.
        """
        self.check()
        if not self._superseded:
            return
        places: dict[Key, int] = {}
        end = 0
        with self.path.open("rb") as source, replacing(self.path) as target:
            for key, place in sorted(self._places.items(), key=lambda item: item[1]):
                source.seek(place)
                places[key] = end
                end += target.write(source.readline())
            self.check()
            self._opened = os.fstat(target.fileno())
        self._places, self._end, self._superseded = places, end, 0


def _is_damaged(line: bytes) -> bool:
    """Whether a line that is no JSON can be what is left of one of ours.

    A kill or a full disk leaves the beginning of a line, a power cut zeros, an editor a blank line.
    """
    return line.startswith(_BEGINNING) or _BEGINNING.startswith(line.rstrip()) or b"\0" in line
