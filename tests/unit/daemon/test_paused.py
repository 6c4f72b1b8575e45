"""What is paused stays paused over a restart, and a damaged note errs towards not looking."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.daemon.paused import PausedFile


def test_the_file_remembers_and_is_gone_when_nothing_is_paused(tmp_path: Path) -> None:
    file = PausedFile(tmp_path / "outbox.db")
    assert file.read(["a", "b"]) == (set(), "")
    assert file.write({"b", "a"}) == ""
    assert PausedFile(tmp_path / "outbox.db").read(["a", "b"]) == ({"a", "b"}, "")
    assert file.read(["b", "c"]) == ({"b"}, "")  # a camera that is not there any more is no matter
    assert file.write(set()) == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"[", b'{"a": 1}', b"\xff", b"null"])
def test_a_damaged_file_pauses_everything(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "outbox.db.paused").write_bytes(content)
    paused, trouble = PausedFile(tmp_path / "outbox.db").read(["a", "b"])
    assert paused == {"a", "b"}
    assert "stay paused" in trouble


def test_a_disk_that_does_not_take_it_is_named(tmp_path: Path) -> None:
    assert PausedFile(tmp_path / "absent" / "outbox.db").write({"a"})
