"""Files that survive: a lock that dies with its process, and replacing a file in one step.

Knows what the system promises of locks, renames and fsync. Refuses to know what is in a file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from typing import TYPE_CHECKING, BinaryIO

from hilos_async.errors import HilosError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


class ExportError(HilosError):
    """A file of an export cannot be used: it cannot be written, is in use, or is no export.

    Whatever stood in it is still there. ``path`` is the file; ``kept`` of ``total`` ids have a whole
    line in the NDJSON file, both ``None`` where nothing had been asked yet.
    """

    path: Path
    kept: int | None
    total: int | None

    def __init__(
        self, message: str, *, path: Path, kept: int | None = None, total: int | None = None
    ) -> None:
        super().__init__(message)
        self.path = path
        self.kept = kept
        self.total = total


@contextlib.contextmanager
def locked(path: Path) -> Generator[None, None, None]:
    """Keep every other export off a file while the block runs.

    The lock is the system's, on a file beside it (the file itself may be replaced under way), so it
    ends with the process that holds it, however that ends. Raises ``ExportError`` if it is taken.
    """
    beside = path.with_name(f".{path.name}.hilos-lock")
    descriptor = _take(beside, path)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        # While it is still held: whoever took it afterwards must not lose it.
        with contextlib.suppress(OSError):
            beside.unlink()
        os.close(descriptor)


def _take(beside: Path, path: Path) -> int:
    while True:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            is_mine = _lock(descriptor)
            if not is_mine:
                holder = os.read(descriptor, 200).decode(errors="replace") or "another process"
                raise ExportError(f"another export is writing {path}: {holder}", path=path)
            if _is_still_there(descriptor, beside):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last holder has just removed it


def _is_still_there(descriptor: int, beside: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), beside.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    _FAR = 1 << 30  # Windows keeps others from reading what is locked, and they read who holds it

    def _lock(descriptor: int) -> bool:
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextlib.contextmanager
def replacing(path: Path) -> Generator[BinaryIO, None, None]:
    """Write a file in one step: until the block has ended well, ``path`` is what it was.

    It is on the disk before it takes the name, so that a power cut leaves the old file or the new.
    """
    if path.exists() and not os.access(path, os.W_OK):  # which a rename would not ask
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    part = path.with_name(f".{path.name}.hilos-part")
    try:
        with part.open("wb") as file:
            with contextlib.suppress(FileNotFoundError):
                part.chmod(path.stat().st_mode & 0o777)
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Put a new name of a file on the disk, where the system can: a file's own fsync does not."""
    if sys.platform != "win32":
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
