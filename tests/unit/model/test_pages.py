"""Mapped files that are let go of: no longer resident, and never changed."""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.model.pages import ROWS, Rows, Turns, let_go

SIZE = 1 << 20


def resident(path: Path) -> int:
    """KiB of the mappings of a file that are resident."""
    found, ours = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if not line[0].isupper():
            ours = line.endswith(f" {path}")
        elif ours and line.startswith("Rss:"):
            found += int(line.split()[1])
    return found


class Mapped:
    """A file as onnxruntime maps it: for itself, and writable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(range(256)) * (SIZE // 256))
        descriptor = os.open(path, os.O_RDONLY)
        self.map = mmap.mmap(descriptor, SIZE, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        os.close(descriptor)

    def touch(self) -> int:
        return sum(self.map[place] for place in range(0, SIZE, 4096))


@pytest.fixture
def mapped(tmp_path: Path) -> Iterator[list[Mapped]]:
    files = [Mapped(tmp_path / name) for name in ("first.data", "other.data")]
    yield files
    for file in files:
        file.map.close()


def test_what_was_read_is_let_go_and_can_be_read_again(mapped: list[Mapped]) -> None:
    first, other = mapped
    assert first.touch() == other.touch()
    assert resident(first.path) == resident(other.path) == SIZE // 1024
    let_go([first.path])
    assert resident(first.path) == 0
    assert resident(other.path) == SIZE // 1024
    assert first.map[:256] == bytes(range(256))


def test_what_was_written_is_kept(mapped: list[Mapped]) -> None:
    first, other = mapped
    first.touch()
    first.map[5000] = 1
    let_go([first.path, other.path])
    assert first.map[5000] == 1
    assert resident(first.path) == SIZE // 1024


def test_rows_that_were_looked_up_are_let_go_now_and_then(mapped: list[Mapped]) -> None:
    table, other = mapped
    rows = Rows(table.path)
    for _ in range(3):
        assert table.touch() == other.touch()
        rows.read(1)
        rows.read(ROWS - 2)
        assert resident(table.path) == SIZE // 1024
        rows.read(1)
        assert (resident(table.path), resident(other.path)) == (0, SIZE // 1024)


def test_files_that_are_not_mapped_do_not_matter(tmp_path: Path) -> None:
    let_go([tmp_path / "nowhere"])
    rows = Rows(tmp_path / "nowhere")
    rows.read(ROWS)
    let_go([])


def test_whoever_has_its_turn_lets_go_of_the_others_files_once(mapped: list[Mapped]) -> None:
    seeing, writing = mapped
    turns = Turns([seeing.path], [writing.path])
    turns.begin("seeing")
    seeing.touch()
    writing.touch()
    turns.begin("seeing")  # its turn already
    assert resident(writing.path) == SIZE // 1024
    turns.begin("writing")
    assert (resident(seeing.path), resident(writing.path)) == (0, SIZE // 1024)
    turns.begin("seeing")
    assert resident(writing.path) == 0
