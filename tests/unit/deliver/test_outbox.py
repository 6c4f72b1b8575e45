"""The outbox keeps what it was given until it is acknowledged, whatever happens to the process."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from edge.deliver.inspection import inspect_outbox
from edge.deliver.outbox import (
    OVERHEAD_BYTES,
    ClipRow,
    CoverageRow,
    Dropped,
    Outbox,
    Outgoing,
)
from edge.errors import DeliveryError

ROOMY = 2**20


def clip(seq: int, camera: str = "door") -> ClipRow:
    return ClipRow(f"{camera}-{seq}", camera, seq, "2026-01-01T00:00:00.000Z", 60.0, clock_synced=True)


def message(key: str, camera: str = "door", size: int = 20) -> Outgoing:
    return Outgoing(key, f"edgeclip/v1/dev/{camera}/summary", b"x" * size, camera)


def test_only_an_ack_removes_an_answer(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.db", max_bytes=ROOMY) as outbox:
        outbox.add([message("a")])
    with Outbox(tmp_path / "outbox.db", max_bytes=ROOMY) as outbox:
        assert outbox.pending(9) == [message("a")]
        outbox.ack("a")
        assert outbox.pending(9) == []
    with Outbox(tmp_path / "outbox.db", max_bytes=ROOMY) as outbox:
        assert outbox.pending(9) == []


def test_messages_come_out_in_the_order_in_which_they_went_in(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.db", max_bytes=ROOMY) as outbox:
        outbox.add([message("z"), message("a"), message("m", "yard")])
        outbox.add([message("b")])
    with Outbox(tmp_path / "outbox.db", max_bytes=ROOMY) as outbox:
        assert [m.id for m in outbox.pending(3)] == ["z", "a", "m"]
        assert [m.id for m in outbox.pending(9, without=["yard"])] == ["z", "a", "b"]


def test_the_same_work_is_queued_once(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.db", max_bytes=ROOMY) as outbox:
        outbox.add([message("a"), message("a")])
        outbox.add([message("a")])
        assert outbox.stats().pending == 1
    with Outbox(tmp_path / "outbox.db", max_bytes=ROOMY) as outbox:
        outbox.add([message("a")])
        assert outbox.pending(9) == [message("a")]


def test_an_ack_of_something_unknown_changes_nothing(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.db", max_bytes=ROOMY) as outbox:
        outbox.add([message("a")])
        outbox.ack("b")
        assert outbox.pending(9) == [message("a")]


def test_a_clip_ends_exactly_once(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.db", max_bytes=ROOMY) as outbox:
        outbox.open_clip(clip(0))
        outbox.commit("door-0", "answered", 60.0, [message("a")])
        with pytest.raises(DeliveryError, match="cannot end as skipped"):
            outbox.commit("door-0", "skipped", 60.0, [message("b")])
        with pytest.raises(DeliveryError, match="cannot end as answered"):
            outbox.commit("never-opened", "answered", 60.0, [message("c")])
        assert [m.id for m in outbox.pending(9)] == ["a"]
        assert outbox.coverage() == {"door": CoverageRow(60.0, 60.0, 0.0, 0.0, 0.0)}


@pytest.mark.parametrize("seq", [0, 2])
def test_a_clip_takes_the_next_number_and_no_other(tmp_path: Path, seq: int) -> None:
    with Outbox(tmp_path / "outbox.db", max_bytes=ROOMY) as outbox:
        outbox.open_clip(clip(0))
        with pytest.raises(DeliveryError, match="cannot be opened"):
            outbox.open_clip(clip(seq))


def test_numbers_and_coverage_survive_a_restart_and_the_epoch_stays(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.db", max_bytes=ROOMY) as outbox:
        epoch = outbox.epoch
        for seq in range(4):
            outbox.open_clip(clip(seq))
        outbox.open_clip(clip(0, "yard"))
        outbox.commit("door-0", "answered", 60.0, [])
        outbox.commit("door-1", "partial", 59.5, [])
        outbox.commit("door-2", "skipped", 60.0, [message("skipped-2")])
    with Outbox(tmp_path / "outbox.db", max_bytes=ROOMY) as outbox:
        assert outbox.epoch == epoch
        assert (outbox.next_seq("door"), outbox.next_seq("yard"), outbox.next_seq("new")) == (4, 1, 0)
        assert outbox.open_clips() == [clip(3), clip(0, "yard")]
        assert outbox.coverage() == {
            "door": CoverageRow(239.5, 60.0, 59.5, 60.0, 60.0),
            "yard": CoverageRow(60.0, 0.0, 0.0, 0.0, 60.0),
        }
        assert (outbox.notice, outbox.degraded) == ("", "")


def test_the_oldest_go_first_and_every_loss_is_told_and_counted(tmp_path: Path) -> None:
    one = OVERHEAD_BYTES + 20 + len(message("a").topic)
    with Outbox(tmp_path / "outbox.db", max_bytes=3 * one) as outbox:
        outbox.open_clip(clip(0))
        assert outbox.add([message("a"), message("b"), message("c")]) == ()
        assert outbox.commit("door-0", "answered", 60.0, [message("d"), message("e")]) == (
            Dropped("a", "door"),
            Dropped("b", "door"),
        )
        assert [m.id for m in outbox.pending(9)] == ["c", "d", "e"]
        assert (outbox.stats().bytes, outbox.stats().dropped) == (3 * one, 2)
    with Outbox(tmp_path / "outbox.db", max_bytes=3 * one) as outbox:
        assert [m.id for m in outbox.pending(9)] == ["c", "d", "e"]
        assert outbox.add([message("f")]) == (Dropped("c", "door"),)
        assert outbox.stats().dropped == 3


def test_a_message_larger_than_the_bound_is_dropped_and_told(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.db", max_bytes=1000) as outbox:
        assert outbox.add([message("big", size=2000)]) == (Dropped("big", "door"),)
        assert outbox.stats().pending == 0


def test_ended_clips_leave_no_rows_behind(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.db", max_bytes=ROOMY) as outbox:
        for seq in range(50):
            outbox.open_clip(clip(seq))
            outbox.commit(f"door-{seq}", "answered", 60.0, [message(str(seq))])
            outbox.ack(str(seq))
        assert inspect_outbox(tmp_path / "outbox.db").open_clips == ()
        assert outbox.coverage()["door"].answered_s == 3000.0


def test_the_files_are_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "outbox.db"
    with Outbox(path, max_bytes=ROOMY) as outbox:
        outbox.add([message("a")])
        assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_second_daemon_is_refused_and_a_spectator_is_not(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    with Outbox(path, max_bytes=ROOMY) as outbox:
        outbox.open_clip(clip(0))
        outbox.add([message("a")])
        with pytest.raises(DeliveryError, match="in use by another process"):
            Outbox(path, max_bytes=ROOMY)
        seen = inspect_outbox(path)
        assert (seen.epoch, seen.stats, seen.coverage) == (outbox.epoch, outbox.stats(), outbox.coverage())
        assert seen.open_clips == (clip(0),)


def test_there_is_nothing_to_inspect_before_the_first_run(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="there is no outbox"):
        inspect_outbox(tmp_path / "outbox.db")


def test_an_unusable_place_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeliveryError, match="cannot be used") as caught:
        Outbox(tmp_path / "file" / "outbox.db", max_bytes=ROOMY)
    assert "outbox.path" in caught.value.next_step
    (tmp_path / "outbox.db").mkdir()
    with pytest.raises(DeliveryError):
        Outbox(tmp_path / "outbox.db", max_bytes=ROOMY)


def test_closing_twice_is_harmless_and_frees_the_file(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db", max_bytes=ROOMY)
    outbox.close()
    outbox.close()
    Outbox(tmp_path / "outbox.db", max_bytes=ROOMY).close()


def test_many_threads_may_use_it_at_once(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.db", max_bytes=ROOMY) as outbox:

        def work(camera: str) -> None:
            for seq in range(20):
                outbox.open_clip(clip(seq, camera))
                outbox.commit(f"{camera}-{seq}", "answered", 60.0, [message(f"{camera}-{seq}", camera)])
                if seq % 2:
                    outbox.ack(f"{camera}-{seq}")

        threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b", "c")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for camera in ("a", "b", "c"):
            mine = [m.id for m in outbox.pending(99) if m.camera == camera]
            assert mine == [f"{camera}-{seq}" for seq in range(0, 20, 2)]


KILLED = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from edge.deliver.outbox import ClipRow, Outbox, Outgoing
    outbox = Outbox(Path(sys.argv[1]), max_bytes=2**20)
    seq = 0
    while True:
        seq = outbox.next_seq("door")
        print("opening", seq, flush=True)
        outbox.open_clip(ClipRow(f"door-{seq}", "door", seq, "t", 60.0, True))
        print("opened", seq, flush=True)
        outbox.commit(f"door-{seq}", "answered", 60.0, [Outgoing(f"m{seq}", "t", b"payload", "door")])
        print("committed", seq, flush=True)
    """
)


def run_and_kill(path: Path, after_lines: int) -> list[list[str]]:
    """Let a process fill the outbox, kill -9 it after some lines, and return every line that it wrote."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline().split() for _ in range(after_lines)]
    os.kill(process.pid, signal.SIGKILL)
    lines += [line.split() for line in process.stdout.read().splitlines() if len(line.split()) == 2]
    process.stdout.close()
    process.wait()
    return lines


def test_what_was_committed_survives_kill_minus_nine(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    said: set[tuple[str, int]] = set()
    for after_lines in (4, 7, 11, 15):
        said |= {(word, int(seq)) for word, seq in run_and_kill(path, after_lines)}
        committed = {seq for word, seq in said if word == "committed"}
        opened = {seq for word, seq in said if word == "opened"}
        with Outbox(path, max_bytes=ROOMY) as outbox:
            assert outbox.notice == ""
            waiting = {m.id for m in outbox.pending(10_000)}
            left_over = {row.seq for row in outbox.open_clips()}
            assert {f"m{seq}" for seq in committed} <= waiting
            assert outbox.next_seq("door") > max(opened)
            assert opened <= {int(key[1:]) for key in waiting} | left_over | {-1}
            # every number ever used ended once or is still in hand: coverage has no hole
            assert outbox.coverage()["door"].total_s == 60.0 * outbox.next_seq("door")
            for row in outbox.open_clips():
                outbox.commit(row.clip_id, "skipped", row.seconds, [message(f"m{row.seq}")])
