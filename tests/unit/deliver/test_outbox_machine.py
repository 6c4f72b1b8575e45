"""The outbox against a plain model of it, through any sequence of work, acknowledgements, restarts and power cuts."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.deliver.outbox import OVERHEAD_BYTES, ClipRow, Outbox, Outcome, Outgoing

MEMORY = Path("/dev/shm")  # thousands of commits: no disk need wait for each
TOPIC = "t"
MAX_BYTES = 8 * (OVERHEAD_BYTES + 200)
CAMERAS = st.sampled_from(["door", "yard"])


def span(seqs: list[int | None]) -> tuple[int | None, int | None]:
    known = [seq for seq in seqs if seq is not None]
    return (min(known), max(known)) if known else (None, None)


class OutboxMachine(RuleBasedStateMachine):
    """What the outbox must hold is written down here in lists and dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.outbox = Outbox(self.directory / "outbox.db", max_bytes=MAX_BYTES)
        self.epoch = self.outbox.epoch
        self.lives = 0
        self.queue: list[Outgoing] = []
        self.dropped = 0
        self.lost: dict[
            tuple[str, str], list[int | None]
        ] = {}  # numbers of what was dropped and not announced
        self.seqs = {"door": 0, "yard": 0}
        self.open: dict[str, ClipRow] = {}
        self.ended = {"answered": 0.0, "partial": 0.0, "skipped": 0.0}

    def teardown(self) -> None:
        self.outbox.close()
        shutil.rmtree(self.directory)

    def expect(self, messages: list[Outgoing]) -> list[str]:
        for item in messages:
            if item.id not in [waiting.id for waiting in self.queue]:
                self.queue.append(item)
        dropped = []
        while self.bytes() > MAX_BYTES:
            gone = self.queue.pop(0)
            self.lost.setdefault((gone.camera, gone.topic), []).append(gone.seq)
            dropped.append(gone.id)
        self.dropped += len(dropped)
        return dropped

    def bytes(self) -> int:
        return sum(len(m.payload) + len(m.topic) + OVERHEAD_BYTES for m in self.queue)

    @rule(camera=CAMERAS, seconds=st.sampled_from([2.0, 60.0]))
    def open_clip(self, camera: str, seconds: float) -> None:
        seq = self.outbox.next_seq(camera)
        assert seq == self.seqs[camera]
        row = ClipRow(f"{camera}-{seq}", camera, seq, "t0", seconds, clock_synced=bool(seq % 2))
        self.outbox.open_clip(row)
        self.open[row.clip_id] = row
        self.seqs[camera] += 1

    @precondition(lambda self: self.open)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(["answered", "partial", "skipped"]),
        sizes=st.lists(st.integers(0, 400), max_size=3),
    )
    def end_clip(self, data: st.DataObject, outcome: Outcome, sizes: list[int]) -> None:
        row = self.open.pop(data.draw(st.sampled_from(sorted(self.open))))
        messages = [
            Outgoing(f"{row.clip_id}/{i}", TOPIC, b"x" * n, row.camera, row.seq) for i, n in enumerate(sizes)
        ]
        dropped = self.outbox.commit(row.clip_id, outcome, row.seconds / 2, messages)
        assert [item.id for item in dropped] == self.expect(messages)
        self.ended[outcome] += row.seconds / 2

    @precondition(lambda self: self.open)
    @rule(data=st.data(), size=st.integers(0, 400))
    def answer_in_part(self, data: st.DataObject, size: int) -> None:
        row = self.open[data.draw(st.sampled_from(sorted(self.open)))]
        item = Outgoing(f"{row.clip_id}/{len(row.answered)}p", TOPIC, b"z" * size, row.camera, row.seq)
        dropped = self.outbox.answer(row.clip_id, f"p{len(row.answered)}", [item])
        assert [gone.id for gone in dropped] == self.expect([item])
        self.open[row.clip_id] = replace(row, answered=(*row.answered, f"p{len(row.answered)}"))

    @rule(camera=CAMERAS, number=st.integers(0, 12), size=st.integers(0, 3000))
    def add(self, camera: str, number: int, size: int) -> None:
        item = Outgoing(f"free-{number}", TOPIC, b"y" * size, camera)
        assert [gone.id for gone in self.outbox.add([item])] == self.expect([item])

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        keys = data.draw(st.lists(st.sampled_from([m.id for m in self.queue]), max_size=4))
        self.outbox.ack(*keys)
        self.queue = [m for m in self.queue if m.id not in keys]

    @precondition(lambda self: self.lost)
    @rule()
    def announce(self) -> None:
        self.outbox.announced(self.outbox.losses())
        self.lost.clear()

    @rule()
    def restart(self) -> None:
        self.outbox.close()
        self.outbox = Outbox(self.directory / "outbox.db", max_bytes=MAX_BYTES)

    @rule()
    def power_cut(self) -> None:
        """What is on the disk at this moment is all that the next life finds."""
        self.lives += 1
        after = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        for name in ("outbox.db", "outbox.db-wal"):
            if (self.directory / name).exists():
                shutil.copy(self.directory / name, after / name)
        self.outbox.close()
        shutil.rmtree(self.directory)
        self.directory = after
        self.outbox = Outbox(self.directory / "outbox.db", max_bytes=MAX_BYTES)

    @invariant()
    def the_same(self) -> None:
        assert self.outbox.pending(100) == self.queue
        stats = self.outbox.stats()
        assert (stats.pending, stats.bytes, stats.dropped) == (len(self.queue), self.bytes(), self.dropped)
        assert {(x.camera, x.topic): (x.count, x.first_seq, x.last_seq) for x in self.outbox.losses()} == {
            where: (len(seqs), *span(seqs)) for where, seqs in self.lost.items()
        }
        assert {row.clip_id: row for row in self.outbox.open_clips()} == self.open
        assert self.outbox.epoch == self.epoch
        rows = self.outbox.coverage().values()
        assert sum(row.in_hand_s for row in rows) == sum(row.seconds for row in self.open.values())
        assert sum(row.answered_s for row in rows) == self.ended["answered"]
        assert sum(row.partial_s for row in rows) == self.ended["partial"]
        assert sum(row.skipped_s for row in rows) == self.ended["skipped"]
        for row in rows:
            assert row.total_s == row.answered_s + row.partial_s + row.skipped_s + row.in_hand_s
        assert (self.outbox.degraded, self.outbox.notice) == ("", "")


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
