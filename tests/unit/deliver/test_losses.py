"""What a full outbox drops is on record until it has been announced, however the process ends."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from edge.deliver.dropped import announcement
from edge.deliver.inspection import inspect_outbox
from edge.deliver.outbox import OVERHEAD_BYTES, ClipRow, Loss, Outbox, Outgoing
from edge.deliver.topics import Topics
from edge.errors import DeliveryError
from edge.messages import Dropped

TOPICS = Topics("edgeclip", "dev")
SIZE = 200


def message(seq: int, prompt: str = "summary", camera: str = "door") -> Outgoing:
    topic = TOPICS.answer(camera, prompt)
    return Outgoing(f"{camera}-{prompt}-{seq}", topic, b"x" * (SIZE - len(topic)), camera, seq)


def room(count: int) -> int:
    return count * (SIZE + OVERHEAD_BYTES)


def test_a_loss_names_the_clips_by_topic_and_is_written_with_the_drop(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.db", max_bytes=room(3)) as outbox:
        for seq in range(4):
            outbox.add([message(seq), message(seq, "spatial")])
        outbox.add([message(9, camera="yard")])
        shutil.copytree(tmp_path, tmp_path / "cut")  # the power fails here
    with Outbox(tmp_path / "cut" / "outbox.db", max_bytes=room(3)) as outbox:
        assert [m.id for m in outbox.pending(9)] == ["door-summary-3", "door-spatial-3", "yard-summary-9"]
        assert outbox.losses() == (
            Loss("door", TOPICS.answer("door", "spatial"), 3, 0, 2, 6),
            Loss("door", TOPICS.answer("door", "summary"), 3, 0, 2, 5),
        )


def test_an_announced_loss_is_forgotten_and_one_that_has_grown_is_not(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.db", max_bytes=room(1)) as outbox:
        outbox.add([message(0), message(1)])
        first = outbox.losses()
        outbox.add([message(2)])
        outbox.announced(first)
        grown = outbox.losses()
        assert [(loss.count, loss.first_seq, loss.last_seq) for loss in grown] == [(2, 0, 1)]
        outbox.announced(grown)
        assert outbox.losses() == ()
    with Outbox(tmp_path / "outbox.db", max_bytes=room(1)) as outbox:
        assert outbox.losses() == ()
        outbox.add([message(3)])
        assert [(loss.count, loss.first_seq) for loss in outbox.losses()] == [(1, 2)]


def test_the_same_losses_make_the_same_announcement_and_others_another(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.db", max_bytes=room(1)) as outbox:
        outbox.add([message(0), message(1), message(1, "spatial"), message(2)])
        losses = outbox.losses()
        told = announcement(TOPICS, outbox.epoch, "door", losses)
        assert told == announcement(TOPICS, outbox.epoch, "door", outbox.losses())
        outbox.announced(losses)
        outbox.add([message(3)])
        assert announcement(TOPICS, outbox.epoch, "door", outbox.losses()).id != told.id
    said = Dropped.model_validate_json(told.payload)
    assert told.topic == "edgeclip/v1/dev/door/dropped"
    assert (said.count, said.camera) == (3, "door")
    assert {(span.topic, span.count, span.first_seq, span.last_seq) for span in said.spans} == {
        (TOPICS.answer("door", "summary"), 2, 0, 1),
        (TOPICS.answer("door", "spatial"), 1, 1, 1),
    }


def test_messages_of_no_camera_are_announced_for_the_device_each_time_anew(tmp_path: Path) -> None:
    ids = set()
    with Outbox(tmp_path / "outbox.db", max_bytes=room(1)) as outbox:
        for number in range(3):
            outbox.add([Outgoing(f"r-{number}", "edgeclip/v1/dev/reply", b"x" * 100, "")])
            if outbox.losses():
                told = announcement(TOPICS, outbox.epoch, "", outbox.losses())
                assert told.topic == "edgeclip/v1/dev/dropped"
                assert Dropped.model_validate_json(told.payload).spans[0].first_seq is None
                ids.add(told.id)
                outbox.announced(outbox.losses())
    assert len(ids) == 2


def test_an_outbox_of_the_first_version_is_brought_up_to_date_with_all_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    with Outbox(path, max_bytes=room(9)) as outbox:
        outbox.add([message(0), message(1)])
        epoch = outbox.epoch
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            "ALTER TABLE message DROP COLUMN seq; DROP TABLE loss; ALTER TABLE clip DROP COLUMN answered;"
            "PRAGMA user_version = 1;"
        )
    with pytest.raises(DeliveryError, match="older edgeclip"):
        inspect_outbox(path)
    with Outbox(path, max_bytes=room(1)) as outbox:
        assert (outbox.notice, outbox.epoch) == ("", epoch)
        assert [m.id for m in outbox.pending(9)] == ["door-summary-0", "door-summary-1"]
        outbox.add([message(2)])
        assert [(loss.count, loss.first_seq) for loss in outbox.losses()] == [(2, None)]
    assert inspect_outbox(path).stats.pending == 1


def test_an_outbox_of_the_second_version_keeps_its_clips_in_hand(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    row = ClipRow("door-0", "door", 0, "t", 60.0, clock_synced=True)
    with Outbox(path, max_bytes=room(9)) as outbox:
        outbox.open_clip(row)
    with closing(sqlite3.connect(path)) as db:
        db.executescript("ALTER TABLE clip DROP COLUMN answered; PRAGMA user_version = 2;")
    with Outbox(path, max_bytes=room(9)) as outbox:
        assert (outbox.notice, outbox.open_clips()) == ("", [row])
        outbox.answer("door-0", "summary", [message(0)])
    assert inspect_outbox(path).open_clips == (replace(row, answered=("summary",)),)


def test_a_log_without_its_database_is_not_replayed_into_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    with Outbox(path, max_bytes=room(9)) as outbox:
        outbox.add([message(0)])
        wal = (tmp_path / "outbox.db-wal").read_bytes()
    path.unlink()
    (tmp_path / "outbox.db-wal").write_bytes(wal)
    with Outbox(path, max_bytes=room(9)) as outbox:
        assert (outbox.notice, outbox.pending(9)) == ("", [])
    with Outbox(path, max_bytes=room(9)) as outbox:
        assert outbox.notice == ""
