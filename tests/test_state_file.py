"""The file behind a MachinePacer: whole after any crash, the user's own, alive across a reboot."""

from __future__ import annotations

import fcntl
import functools
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilos_async._pace import reckoning, state_file
from hilos_async._pace.state import State, decode, encode, told
from hilos_async._pace.state_file import KEPT, StateFile
from tests.reckonings import HISTORIES
from tests.test_reckoning import History

NOW = 5_000.0
TODAY = 1_700_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "caches" / "hilos_async" / "a.pace"


def file(path: Path, now: float = NOW, today: float = TODAY) -> StateFile:
    """The file as a process sees it at that time."""
    opened = StateFile(path)
    opened.monotonic = lambda: now
    opened.wall = lambda: today
    return opened


def change(opened: StateFile, **fields: object) -> None:
    assert opened.take()
    for name, value in fields.items():
        setattr(opened.state, name, value)
    opened.give()


def seen(opened: StateFile) -> State:
    assert opened.take()
    opened.give()
    return opened.state


def test_what_one_process_writes_the_other_reads(path: Path) -> None:
    one, other = file(path), file(path)
    change(one, requests=50.0, until=NOW + 3, log=[(1.0, 2.0, 1)])
    assert other.paused_until == 0.0  # it is not open yet
    assert seen(other).requests == 50.0
    assert list(other.state.log) == [(1.0, 2.0, 1)]
    other.state.log.append((3.0, 4.0, 2))
    change(other, requests=49.0, until=NOW + 9)
    assert one.paused_until == NOW + 9  # without the lock
    assert seen(one).requests == 49.0
    assert list(one.state.log) == [(1.0, 2.0, 1), (3.0, 4.0, 2)]
    assert len(one.state.log) == 2


def test_who_holds_it_excludes_the_others(path: Path) -> None:
    one, other = file(path), file(path)
    assert one.take()
    assert not other.take()
    one.give()
    assert other.take()


def test_it_is_the_users_own(path: Path) -> None:
    change(file(path), requests=50.0)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_link_to_another_file_is_not_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"precious")
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match=r"symbolic link|Too many levels"):
        file(path).take()
    assert (tmp_path / "other").read_bytes() == b"precious"


@pytest.mark.parametrize("damage", [1, 20, 60, 120])
def test_a_write_that_did_not_end_leaves_what_was_before_it(path: Path, damage: int) -> None:
    one = file(path)
    change(one, requests=50.0, log=[(1.0, 2.0, 1)])
    before = path.read_bytes()
    one.state.log.append((3.0, 4.0, 1))
    change(one, requests=7.0)
    after = bytearray(path.read_bytes())
    # Of the newest write only the beginning arrived: what stood there before it goes on.
    newest = state_file._place(2)
    old = before[newest:].ljust(state_file._SLOT, b"\0")
    end = newest + state_file._SLOT
    after[newest + damage : end] = old[damage : end - newest]
    path.write_bytes(bytes(after))
    assert seen(file(path)).requests == 50.0
    assert list(seen(file(path)).log) == [(1.0, 2.0, 1)]


@given(st.binary(max_size=400), st.sampled_from([0, state_file._SLOT, 2 * state_file._SLOT]))
def test_no_damage_is_more_than_a_new_beginning(garbage: bytes, place: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.pace"
        change(file(path), requests=50.0)
        with path.open("r+b") as damaged:
            damaged.seek(place)
            damaged.write(garbage)
        assert seen(file(path)).requests in (0.0, 50.0)


KILLED = """
import os, signal, sys
from pathlib import Path
from hilos_async._pace.state_file import StateFile
file = StateFile(Path(sys.argv[1]))
at, count = int(sys.argv[2]), 0
pwrite = os.pwrite
def half(fd, data, place):
    global count
    count += 1
    if count == at:
        pwrite(fd, data[: len(data) // 2], place)
        os.kill(os.getpid(), signal.SIGKILL)
    return pwrite(fd, data, place)
os.pwrite = half
for number in range(1, 100):
    assert file.take()
    file.state.requests = float(number)
    file.state.log.append((float(number), float(number), 1))
    file.give()
"""


@pytest.mark.parametrize("at", range(1, 9))
def test_kill_9_in_the_middle_of_a_write_loses_that_write_alone(path: Path, at: int) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, path, str(at)], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    whole = (at - 1) // 2  # each change writes the log and then the state
    survivor = file(path)  # and the lock is free
    # What the other half would have written may be there already.
    assert seen(survivor).requests in (whole, whole + 1)
    assert len(list(survivor.state.log)) == survivor.state.requests
    change(survivor, requests=1_000.0)
    assert seen(file(path)).requests == 1_000.0


def test_a_file_that_is_deleted_goes_on_in_a_new_one(path: Path) -> None:
    one, other = file(path), file(path)
    change(one, requests=50.0, log=[(1.0, 2.0, 1)])
    seen(other)
    path.unlink()
    assert seen(one).requests == 50.0
    assert path.exists()
    assert seen(other).requests == 50.0
    assert list(seen(file(path)).log) == [(1.0, 2.0, 1)]
    change(other, requests=9.0)
    assert seen(one).requests == 9.0


def test_whoever_does_not_give_it_back_is_passed_over(path: Path) -> None:
    stuck, other, third = file(path), file(path), file(path)
    change(stuck, requests=50.0, log=[(1.0, 2.0, 1)])
    seen(third)
    assert stuck.take()  # and stops
    assert not other.take()
    other.replace()
    change(other, requests=40.0)
    assert seen(third).requests == 40.0
    stuck.state.requests = 1.0
    stuck.give()  # into a file that nobody reads any more
    assert seen(stuck).requests == 40.0
    assert list(stuck.state.log) == [(1.0, 2.0, 1)]
    assert [each.name for each in path.parent.iterdir()] == [path.name]


# --- clocks


def saved(path: Path) -> State:
    """Save a state at NOW that has a pause of 30 seconds, and give it."""
    opened = file(path)
    change(opened, requests=50.0, until=NOW + 30, began=NOW, replies=[NOW - 1], log=[(NOW, NOW, 1)])
    return opened.state


def test_after_a_reboot_times_go_on_where_the_calendar_says(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(path)
    monkeypatch.setattr(state_file, "boot", lambda: 1)
    # Two hundred seconds after it started, of which ten have gone by since the state was saved.
    state = seen(file(path, 200.0, TODAY + 10))
    assert state.requests == 50.0
    assert state.until == pytest.approx(220.0)
    assert state.replies == [pytest.approx(189.0)]
    assert next(iter(state.log))[0] == pytest.approx(190.0)
    assert reckoning.reserve(state, 200.0) is not None


def test_a_monotonic_clock_that_is_behind_has_begun_anew(path: Path) -> None:
    # Where no boot has a name.
    saved(path)
    assert seen(file(path, 100.0, TODAY + 40)).until == pytest.approx(90.0)


def test_a_calendar_that_was_set_back_over_a_reboot_waits_no_longer_than_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(path)
    monkeypatch.setattr(state_file, "boot", lambda: 1)
    assert seen(file(path, 200.0, TODAY - 1e6)).until == pytest.approx(230.0)


@pytest.mark.parametrize("jump", [-1e8, 1e8])
def test_a_jump_of_the_calendar_changes_nothing_while_the_machine_runs(
    path: Path, jump: float
) -> None:
    saved(path)
    state = seen(file(path, NOW + 1, TODAY + jump))
    assert (state.requests, state.until) == (50.0, NOW + 30)


def test_what_was_learned_is_kept_for_a_day(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(path)
    assert seen(file(path, NOW + KEPT - 1)).requests == 50.0
    saved(path)
    assert seen(file(path, NOW + KEPT + 1)).requests == 0.0
    saved(path)
    monkeypatch.setattr(state_file, "boot", lambda: 1)
    assert seen(file(path, 9.0, TODAY + KEPT + 1)).requests == 0.0


def test_files_that_nobody_has_used_for_days_are_deleted(path: Path) -> None:
    change(file(path), requests=50.0)
    old = path.with_name("b.pace")
    change(file(old), requests=50.0)
    os.utime(old, (TODAY, TODAY - 3 * KEPT))
    os.utime(path, (TODAY, TODAY - KEPT))
    change(file(path.with_name("c.pace")), requests=50.0)
    assert {each.name for each in path.parent.iterdir()} == {"a.pace", "c.pace"}


# --- where it is


@pytest.mark.parametrize("given", [None, "", "relative/caches"])
def test_without_a_cache_directory_it_is_in_the_home(
    given: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", given) if given is not None else monkeypatch.delenv(
        "XDG_CACHE_HOME"
    )
    assert state_file.directory() in (
        tmp_path / ".cache" / "hilos_async",
        tmp_path / "Library" / "Caches" / "hilos_async",
    )


def test_budgets_have_files_of_their_own_whose_names_tell_nothing() -> None:
    names = {state_file.path_of(budget).name for budget in ("key a", "key b", "name a")}
    assert len(names) == 3
    assert all(len(name) == 37 for name in names)


def test_the_lock_is_one_of_the_kernel(path: Path) -> None:
    one = file(path)
    assert one.take()
    with path.open() as another, pytest.raises(BlockingIOError):
        fcntl.flock(another, fcntl.LOCK_EX | fcntl.LOCK_NB)


# --- the same as in memory


def play(seed: int, path: Path) -> None:
    """Play one history in memory, and through a file that three processes use by turns."""
    history = History(seed)
    state = told(*history.limit) if history.limit else State()
    processes = [file(path) for _ in range(3)]
    processes[0].state = decode(encode(state))
    for _ in range(history.chance.randrange(5, 60)):
        history.go_on()
        process = history.chance.choice(processes[:1] if not path.exists() else processes)
        process.monotonic = functools.partial(float, history.now)
        assert process.take()
        deed = history.chance.choice(["reserve", "reserve", "leave", "reply", "reply"])
        if deed == "reserve":
            slot = reckoning.reserve(state, history.now)
            assert reckoning.reserve(process.state, history.now) == slot
            if slot is not None:
                history.slots.append(slot)
        elif deed == "leave" and history.slots:
            at = history.goes_at(history.slots.pop(0))
            history.now = max(history.now, at)
            history.flying.append(at)
            reckoning.left(state, at)
            reckoning.left(process.state, at)
        elif deed == "reply" and history.flying:
            reply = history.reply()
            history.now = max(history.now, reply.received)
            spread = history.chance.random()
            reckoning.report(state, reply, spread)
            reckoning.report(process.state, reply, spread)
        process.give()
        assert fields(process.state) == fields(state), f"history {seed}, after {deed}"
    for process in processes:
        process.close()


def fields(state: State) -> dict[str, object]:
    named: dict[str, object] = msgspec.structs.asdict(state)
    return named | {"log": list(state.log)}


def test_three_processes_and_one_memory_give_the_same_slots(path: Path) -> None:
    for seed in range(HISTORIES):
        play(seed, path)
        path.unlink()
