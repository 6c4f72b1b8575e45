"""What the outbox does about a damaged file and a disk that takes nothing: it tells, and the service goes on."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.deliver.outbox import Outbox, Outgoing
from tests.unit.deliver.test_outbox import ROOMY, clip, message


def filled(path: Path) -> str:
    """Make an outbox with some history and return its epoch."""
    with Outbox(path, max_bytes=ROOMY) as outbox:
        for seq in range(30):
            outbox.open_clip(clip(seq))
            outbox.commit(f"door-{seq}", "answered", 60.0, [message(str(seq), size=2000)])
        return outbox.epoch


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(8192))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_in_the_header(path: Path) -> None:
    os.truncate(path, 50)


def page_overwritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(3 * 4096))


def foreign(path: Path) -> None:
    path.unlink()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE states (x)")
    database.commit()
    database.close()


def newer(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.commit()
    database.close()


@pytest.mark.parametrize(
    "damage",
    [garbage, empty, truncated, cut_in_the_header, page_overwritten, foreign, newer],
    ids=lambda f: f.__name__,
)
def test_a_damaged_file_is_set_aside_and_a_new_epoch_begins(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "outbox.db"
    epoch = filled(path)
    damage(path)
    found = path.read_bytes()
    with Outbox(path, max_bytes=ROOMY) as outbox:
        (aside,) = tmp_path.glob("outbox.db.damaged-*Z")
        assert aside.read_bytes() == found
        assert aside.name in outbox.notice
        assert outbox.epoch != epoch
        outbox.open_clip(clip(0))
        outbox.commit("door-0", "answered", 60.0, [message("a")])
        epoch = outbox.epoch
    with Outbox(path, max_bytes=ROOMY) as outbox:
        assert (outbox.notice, outbox.epoch, outbox.pending(9)) == ("", epoch, [message("a")])


def test_a_write_ahead_log_of_a_damaged_file_is_not_replayed_into_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    filled(path)
    with Outbox(path, max_bytes=ROOMY) as outbox:
        outbox.add([message("old")])
        shutil.copy(tmp_path / "outbox.db-wal", tmp_path / "log")
    shutil.move(tmp_path / "log", tmp_path / "outbox.db-wal")
    garbage(path)
    with Outbox(path, max_bytes=ROOMY) as outbox:
        assert "damaged" in outbox.notice
        assert outbox.pending(9) == []
        outbox.add([message("new")])
    with Outbox(path, max_bytes=ROOMY) as outbox:
        assert outbox.pending(9) == [message("new")]


def test_damaged_files_do_not_pile_up(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    for _ in range(4):
        garbage(path)
        Outbox(path, max_bytes=ROOMY).close()
    assert len(list(tmp_path.glob("outbox.db.damaged-*Z"))) == 2


def test_a_file_that_goes_bad_under_a_running_service_costs_the_queue_and_nothing_else(
    tmp_path: Path,
) -> None:
    path = tmp_path / "outbox.db"
    filled(path)
    with Outbox(path, max_bytes=64 * ROOMY) as outbox:
        outbox.add(
            [message(f"more-{n}", size=2000) for n in range(3000)]
        )  # more than SQLite's own cache holds
    with Outbox(path, max_bytes=64 * ROOMY) as outbox:
        epoch = outbox.epoch
        outbox.open_clip(clip(30))
        with path.open("r+b") as file:
            file.write(os.urandom(path.stat().st_size))
        os.truncate(tmp_path / "outbox.db-wal", 0)
        outbox.pending(99)
        outbox.commit("door-30", "partial", 60.0, [message("new")])
        assert outbox.pending(99) == [message("new")]
        assert outbox.stats().dropped == 3030
        assert "damaged" in outbox.notice
    with Outbox(path, max_bytes=ROOMY) as outbox:
        assert (outbox.epoch, outbox.next_seq("door"), outbox.open_clips()) == (epoch, 31, [])
        assert (outbox.coverage()["door"].answered_s, outbox.coverage()["door"].partial_s) == (1800.0, 60.0)
        assert (outbox.pending(99), outbox.stats().dropped) == ([message("new")], 3030)


# --- A full disk: a tmpfs of our own, really full ---------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB; only root may make one."""
    directory = tmp_path / "disk"
    directory.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", bytes(directory), b"tmpfs", 0, b"size=512k") != 0:
        pytest.skip(f"no file system can be mounted here: {os.strerror(ctypes.get_errno())}")
    try:
        yield directory
    finally:
        libc.umount2(bytes(directory), 2)  # MNT_DETACH


def fill(directory: Path) -> Path:
    """Take every free byte of a file system; deleting the returned file gives them back."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return ballast


def test_with_a_full_disk_messages_still_go_out_and_are_written_when_there_is_room(small_disk: Path) -> None:
    path = small_disk / "outbox.db"
    with Outbox(path, max_bytes=ROOMY) as outbox:
        outbox.add([message("stored")])
        outbox.open_clip(clip(0))
        ballast = fill(small_disk)
        written = 0
        while not outbox.degraded:  # the log that SQLite allocated before still takes a little
            outbox.add([message(f"{written:04}", size=5000)])
            written += 1
        outbox.commit("door-0", "answered", 60.0, [message("last")])
        keys = ["stored", *(f"{n:04}" for n in range(written)), "last"]
        assert [m.id for m in outbox.pending(999)] == keys
        assert "full" in outbox.degraded
        outbox.ack("stored", "last")
        assert [m.id for m in outbox.pending(999)] == keys[1:-1]
        ballast.unlink()
        outbox.open_clip(clip(1))
        assert outbox.degraded == ""
        epoch = outbox.epoch
    with Outbox(path, max_bytes=ROOMY) as outbox:
        assert (outbox.epoch, outbox.next_seq("door"), outbox.open_clips()) == (epoch, 2, [clip(1)])
        assert [m.id for m in outbox.pending(999)] == keys[1:-1]
        assert outbox.coverage()["door"].answered_s == 60.0


def test_a_service_that_starts_on_a_full_disk_works_from_memory(small_disk: Path) -> None:
    ballast = fill(small_disk)
    with Outbox(small_disk / "outbox.db", max_bytes=ROOMY) as outbox:
        outbox.open_clip(clip(0))
        outbox.commit("door-0", "answered", 60.0, [message("a")])
        assert outbox.degraded
        assert outbox.pending(9) == [message("a")]
        ballast.unlink()
        outbox.add([message("b")])
        assert outbox.degraded == ""
        epoch = outbox.epoch
    with Outbox(small_disk / "outbox.db", max_bytes=ROOMY) as outbox:
        assert (outbox.epoch, outbox.pending(9)) == (epoch, [message("a"), message("b")])
        assert outbox.next_seq("door") == 1


def test_a_restart_on_a_full_disk_finds_what_was_stored(small_disk: Path) -> None:
    path = small_disk / "outbox.db"
    with Outbox(path, max_bytes=ROOMY) as outbox:
        outbox.open_clip(clip(0))
        outbox.add([message("stored")])
    ballast = fill(small_disk)
    with Outbox(path, max_bytes=ROOMY) as outbox:
        assert outbox.pending(9) == [message("stored")]
        assert outbox.open_clips() == [clip(0)]
        outbox.commit("door-0", "skipped", 60.0, [message("announced")])
        assert outbox.pending(9) == [message("stored"), message("announced")]
        assert outbox.degraded
        ballast.unlink()
        outbox.ack("stored")
        assert outbox.degraded == ""
    with Outbox(path, max_bytes=ROOMY) as outbox:
        assert outbox.pending(9) == [message("announced")]


DIES_BEHIND = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    from edge.deliver.outbox import ClipRow, Outbox, Outgoing
    outbox = Outbox(Path(sys.argv[1]), max_bytes=2**20)
    while not outbox.degraded:
        seq = outbox.next_seq("door")
        outbox.open_clip(ClipRow(f"{outbox.epoch}-{seq}", "door", seq, "t", 60.0, True))
    print(outbox.epoch, outbox.next_seq("door"), flush=True)
    os.kill(os.getpid(), 9)
    """
)


def test_numbers_used_while_the_disk_was_full_are_never_used_again_in_their_epoch(small_disk: Path) -> None:
    path = small_disk / "outbox.db"
    Outbox(path, max_bytes=ROOMY).close()
    ballast = fill(small_disk)
    died = subprocess.run(
        [sys.executable, "-c", DIES_BEHIND, str(path)], check=False, capture_output=True, text=True
    )
    assert died.returncode == -signal.SIGKILL
    epoch, used = died.stdout.split()
    ballast.unlink()
    with Outbox(path, max_bytes=ROOMY) as outbox:
        assert outbox.epoch != epoch or outbox.next_seq("door") >= int(used)
        assert "new epoch" in outbox.notice
        epoch = outbox.epoch
    with Outbox(path, max_bytes=ROOMY) as outbox:
        assert (outbox.epoch, outbox.notice) == (epoch, "")


def test_memory_is_bounded_too_while_the_disk_is_full(small_disk: Path) -> None:
    fill(small_disk)
    with Outbox(small_disk / "outbox.db", max_bytes=256 * 2**20) as outbox:
        big = b"x" * (4 * 2**20)
        dropped = [item.id for n in range(10) for item in outbox.add([Outgoing(str(n), "t", big, "door")])]
        waiting = [m.id for m in outbox.pending(99)]
        assert dropped + waiting == [str(n) for n in range(10)]
        assert len(waiting) * len(big) <= 32 * 2**20
        assert outbox.stats().dropped == len(dropped)
