"""A pace's state in a file that a machine's processes share, under a lock that dies with its holder.

Knows where such files are, how one is locked, read and written, and what becomes of it after a crash
in the middle of a write, a reboot or a deletion. It never waits. Refuses to know what a state means.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import sys
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from hilos_async._pace.state import State, decode, encode, moved

try:
    import fcntl
except ImportError as error:
    raise ImportError(
        "a pace for the whole machine needs Linux or macOS: here, pace one process, or take a RedisPacer"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT: Final = 86_400.0  # seconds; what is older is learned anew
_SUFFIX: Final = ".pace"
# Two slots for the state and two for its log, each pair written in turn: a crash in the middle of a
# write leaves what was before it whole. More than a slot has room for the reckoning never keeps.
_SLOT: Final = 1 << 18
_HEADER: Final = struct.Struct("<4sQdddQIIQII")  # and its checksum
_CHECK: Final = struct.Struct("<I")
_SIZE: Final = _HEADER.size + _CHECK.size
_MAGIC: Final = b"hpc1"
# An entry whose owner is another user's, or a symbolic link, is none of ours.
_FLAGS: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


class _Header(NamedTuple):
    magic: bytes
    number: int  # of the write; the higher one is the newer
    until: float  # the end of the pause, to be read without the rest
    at: float  # when it was written, on the monotonic clock
    wall: float  # and on the calendar's
    boot: int  # a digest that names the time since the machine started
    length: int
    checksum: int
    log: int  # which write of the log belongs to it
    log_length: int
    log_checksum: int


class _Log(list[tuple[float, float, int]]):
    """The log of a state, which is long and seldom read: unpacked when somebody reads it."""

    ENTRY: Final = struct.Struct("<ddI")

    def __init__(self, packed: bytes) -> None:
        super().__init__()
        self._packed = packed  # and then come the entries that were appended
        self._saved = len(packed)

    @property
    def is_longer(self) -> bool:
        """Whether something was appended since it was read or saved."""
        return len(self.packed()) > self._saved

    def packed(self) -> bytes:
        """All of it, packed."""
        if super().__len__():
            self._packed += b"".join(self.ENTRY.pack(*entry) for entry in super().__iter__())
            self.clear()
        return self._packed

    def save(self) -> bytes:
        """The same, which is then saved."""
        self._saved = len(self.packed())
        return self._packed

    def __iter__(self) -> Iterator[tuple[float, float, int]]:
        return self.ENTRY.iter_unpack(self.packed())

    def __len__(self) -> int:
        return len(self.packed()) // self.ENTRY.size


def directory() -> Path:
    """Where the files are: the user's cache directory, as it survives a reboot and every login has it.

    Raises ``OSError`` for a user without a home.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    if Path(given).is_absolute():
        caches = Path(given)
    else:
        try:
            home = Path.home()
        except RuntimeError as error:
            raise FileNotFoundError(errno.ENOENT, str(error)) from None
        caches = home / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return caches / "hilos_async"


def path_of(budget: str) -> Path:
    """The file of a budget; its name is a digest."""
    digest = hashlib.blake2b(budget.encode(), digest_size=16).hexdigest()
    return directory() / f"{digest}{_SUFFIX}"


def boot() -> int:
    """A number for the time since the machine started; 0 where nothing tells it."""
    try:
        name = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError:
        return 0
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")


class StateFile:
    """One file, as one process sees it.

    ``take`` locks it and brings ``state`` up to date, ``give`` writes ``state`` back and unlocks it.
    Both raise ``OSError`` where the file system does; ``state`` is then as it was last known.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = State()
        self.monotonic = time.monotonic
        self.wall = time.time
        self._boot = boot()
        self._fd: int | None = None
        self._node = (0, 0)
        self._number = 0  # of the write that `state` was read from, or written with
        self._checksum = 0  # in a file that was replaced, the same number may be another write
        self._log = (0, 0, 0)  # the same of the log: number, length, checksum

    def take(self) -> bool:
        """Lock the file and bring ``state`` up to date; ``False``: another process holds it."""
        while True:
            fd = self._open()
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_held = False
            except BlockingIOError:
                is_held = True
            if self._is_there():
                break
            # Somebody has deleted or replaced it; what was in it goes on in what is there now.
            self._refresh(fd)
            self.close()
        if not is_held:
            self._refresh(fd)
        return not is_held

    def give(self, *, changed: bool = True) -> None:
        """Write ``state``, unless it was not changed, and unlock the file."""
        fd = self._fd
        assert fd is not None
        try:
            if changed:
                self._write(fd)
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)

    def replace(self) -> None:
        """Put a new file in the place of one whose holder does not give it back.

        The holder, if it ever goes on, writes into the old one, and then sees that it is gone.
        """
        self._refresh(self._open())
        new = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        fd = os.open(new, _FLAGS | os.O_CREAT | os.O_TRUNC, 0o600)
        self._unpack()
        try:
            self._write(fd)
            new.replace(self.path)
        finally:
            os.close(fd)
            new.unlink(missing_ok=True)
        self.close()

    def read(self) -> float | None:
        """Read ``state`` without the lock; seconds since it was written, ``None`` if it never was."""
        fd = os.open(self.path, _FLAGS)
        try:
            written = [header.wall for header in _headers(fd)]
            self._refresh(fd)
        finally:
            os.close(fd)
        return max(0.0, self.wall() - max(written)) if written else None

    def forget(self) -> None:
        """Delete it; processes that use it start anew as well, if nobody else holds it just now."""
        if self.take():
            self.state = State()
            self.give()
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Close it, which unlocks it as well; it may be taken again."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            self._unpack()

    def newest(self) -> int:
        """The number of the newest write, without the lock."""
        return max((header.number for header in _headers(self._open())), default=0)

    @property
    def paused_until(self) -> float:
        """When the pause ends, as the process wrote that was last; without the lock."""
        if self._fd is None:
            return self.state.until
        newest = max(_headers(self._fd), key=lambda header: header.number, default=None)
        if newest is None or self._knows(newest) or newest.boot != self._boot:
            return self.state.until
        return newest.until

    def _open(self) -> int:
        if self._fd is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._fd = os.open(self.path, _FLAGS)
            except FileNotFoundError:
                remove_old(self.path.parent, self.wall())
                self._fd = os.open(self.path, _FLAGS | os.O_CREAT, 0o600)
            opened = os.fstat(self._fd)
            self._node = (opened.st_dev, opened.st_ino)
        return self._fd

    def _is_there(self) -> bool:
        try:
            found = self.path.stat(follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == self._node

    def _refresh(self, fd: int) -> None:
        for header in sorted(_headers(fd), key=lambda header: header.number, reverse=True):
            if self._knows(header):
                return
            saved = os.pread(fd, header.length, _place(header.number) + _SIZE)
            if zlib.crc32(saved) != header.checksum:
                continue  # whoever wrote it did not come to its end
            try:
                state = decode(saved)
            except msgspec.DecodeError:  # of a version that keeps other things
                continue
            log = (header.log, header.log_length, header.log_checksum)
            if log == self._log:
                state.log = self.state.log
            else:
                packed = os.pread(fd, header.log_length, 2 * _SLOT + _place(header.log))
                if zlib.crc32(packed) != header.log_checksum:
                    continue
                state.log = _Log(packed)
            self.state = self._today(header, state)
            self._number, self._checksum, self._log = header.number, header.checksum, log
            return

    def _knows(self, header: _Header) -> bool:
        return (header.number, header.checksum) == (self._number, self._checksum)

    def _today(self, header: _Header, state: State) -> State:
        """What is left of a state that was saved some time ago."""
        now = self.monotonic()
        if header.boot == self._boot and header.at <= now:
            return state if now - header.at <= KEPT else State()
        # The monotonic clock has begun anew. The calendar tells how long that took, roughly.
        ago = self.wall() - header.wall
        return moved(state, now - max(0.0, ago) - header.at) if ago <= KEPT else State()

    def _write(self, fd: int) -> None:
        log = self.state.log
        if not isinstance(log, _Log):
            log = self.state.log = _Log(b"".join(_Log.ENTRY.pack(*entry) for entry in log))
            self._write_log(fd, log.save())
        elif log.is_longer:
            self._write_log(fd, log.save())
        saved = encode(msgspec.structs.replace(self.state, log=[]))
        number, checksum = self._number + 1, zlib.crc32(saved)
        header = _HEADER.pack(
            _MAGIC,
            number,
            self.state.until,
            self.monotonic(),
            self.wall(),
            self._boot,
            len(saved),
            checksum,
            *self._log,
        )
        _write(fd, b"".join((header, _CHECK.pack(zlib.crc32(header)), saved)), _place(number))
        self._number, self._checksum = number, checksum

    def _unpack(self) -> None:
        """Have the log written whole with the next write, which may go to another file."""
        self.state.log = list(self.state.log)
        self._log = (self._log[0], -1, 0)

    def _write_log(self, fd: int, packed: bytes) -> None:
        number = self._log[0] + 1
        _write(fd, packed, 2 * _SLOT + _place(number))
        self._log = (number, len(packed), zlib.crc32(packed))


def all_files() -> list[Path]:
    """The files of this user."""
    return list(directory().glob(f"*{_SUFFIX}"))


def remove_old(directory: Path, now: float) -> None:
    """Delete what has not been written for two days: nobody would read it any more."""
    for path in directory.glob(f"*{_SUFFIX}*"):
        try:
            if path.stat(follow_symlinks=False).st_mtime < now - 2 * KEPT:
                path.unlink()
        except OSError:  # somebody else was faster
            continue


def _write(fd: int, data: bytes, place: int) -> None:
    if os.pwrite(fd, data, place) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _place(number: int) -> int:
    return (number % 2) * _SLOT


def _headers(fd: int) -> Iterator[_Header]:
    for place in (0, _SLOT):
        read = os.pread(fd, _SIZE, place)
        if len(read) == _SIZE and read[:4] == _MAGIC:
            (check,) = _CHECK.unpack(read[_HEADER.size :])
            header = _Header(*_HEADER.unpack(read[: _HEADER.size]))
            if zlib.crc32(read[: _HEADER.size]) == check and _place(header.number) == place:
                yield header
