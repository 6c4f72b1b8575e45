"""A witness of the outbox: what it is asked for and has done is written down beside it, line by line.

The journal is only appended to, each line in one write, so that what kill -9 leaves of it is whole lines.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge.deliver.outbox import ClipRow, Dropped, Outbox, Outcome, Outgoing


class Journal:
    """Writes lines ``[life, verb, what]`` from any thread."""

    def __init__(self, path: Path, life: int) -> None:
        self._handle = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        self._life = life

    def __call__(self, verb: str, what: object) -> None:
        os.write(self._handle, json.dumps([self._life, verb, what]).encode() + b"\n")


class WitnessedOutbox(Outbox):
    """An outbox whose every change is written down before it is asked for and after it was done."""

    def __init__(self, path: Path, journal: Journal, *, max_bytes: int) -> None:
        self._journal = journal
        super().__init__(path, max_bytes=max_bytes)

    def open_clip(self, row: ClipRow) -> None:
        """Note the clip, once it is in hand."""
        super().open_clip(row)
        self._journal("opened", [row.camera, row.seq, row.clip_id, row.t_start, row.seconds])

    def answer(
        self,
        clip_id: str,
        prompt: str,
        messages: Sequence[Outgoing],
        notes: Mapping[str, str] | None = None,
    ) -> tuple[Dropped, ...]:
        """Note the answer, before and after."""
        self._journal("puts", _named(messages))
        dropped = super().answer(clip_id, prompt, messages, notes)
        self._journal("has", _named(messages))
        return dropped

    def commit(
        self,
        clip_id: str,
        outcome: Outcome,
        seconds: float,
        messages: Sequence[Outgoing],
        notes: Mapping[str, str] | None = None,
    ) -> tuple[Dropped, ...]:
        """Note the clip's end, before and after."""
        self._journal("puts", _named(messages))
        dropped = super().commit(clip_id, outcome, seconds, messages, notes)
        self._journal("has", _named(messages))
        self._journal("ended", [clip_id, outcome, seconds])
        return dropped

    def add(
        self, messages: Sequence[Outgoing], notes: Mapping[str, str] | None = None
    ) -> tuple[Dropped, ...]:
        """Note the messages, before and after."""
        self._journal("puts", _named(messages))
        dropped = super().add(messages, notes)
        self._journal("has", _named(messages))
        return dropped

    def ack(self, *ids: str) -> None:
        """Note what the broker has acknowledged, once it is out."""
        super().ack(*ids)
        self._journal("acked", list(ids))


def _named(messages: Sequence[Outgoing]) -> list[list[str]]:
    return [[message.camera, message.id] for message in messages]
