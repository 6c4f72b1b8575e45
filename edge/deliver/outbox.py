"""The outbox: every answer is on disk before it is sent, and leaves only when the broker has acknowledged it.

One SQLite file holds the message queue, the clip ledger and the state epoch, so ending a clip and queueing what is said
of it is one transaction. Memory holds the ledger and the order of the queue as well (about 200 bytes a message), and
what the disk did not take: while it is full or failing, messages wait in memory, still go out, and are written as soon
as the disk allows. What that costs is told by `Outbox.degraded`.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

from edge.deliver.ledger import ClipRow, CoverageRow, Ledger, Outcome
from edge.deliver.store import (
    Changes,
    DamagedError,
    Loss,
    Outgoing,
    Queued,
    Store,
    UnwritableError,
    set_aside,
)
from edge.errors import DeliveryError

__all__ = [
    "ClipRow",
    "CoverageRow",
    "Dropped",
    "Loss",
    "Outbox",
    "OutboxStats",
    "Outcome",
    "Outgoing",
]

OVERHEAD_BYTES = 256  # counted for every message beside payload and topic: ids, indexes, page slack
MEMORY_MAX_BYTES = 32 * 2**20  # of messages that the disk did not take

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A message that left the outbox without having been delivered, for want of room."""

    id: str
    camera: str


@dataclass(frozen=True, slots=True)
class OutboxStats:
    """What waits: messages, their bytes as the bound counts them, and messages dropped since the epoch began."""

    pending: int
    bytes: int
    dropped: int


class Outbox:
    """The queue and the ledger of one daemon; a context manager, usable from several threads.

    A file that is damaged, foreign or of another schema is set aside under a new name, `notice` says so, and a new
    file with a new epoch takes its place.

    Args:
        path: The SQLite file; made with its directory, readable by its owner only.
        max_bytes: Bound on what waits; beyond it the oldest messages are dropped, counted and returned to the caller.

    Raises:
        DeliveryError: The file cannot be opened, or another process is using it.
    """

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._lock = threading.RLock()
        self._changes = Changes()
        self._queue: dict[str, Queued] = {}  # everything that waits, oldest first
        self._bytes = 0
        self._dropped = 0
        self._losses: dict[tuple[str, str], Loss] = {}  # by camera and topic
        self._ledger = Ledger()
        self._notes: dict[str, str] = {}
        self._store: Store | None = None
        self._unread = False
        self._overflowing = False
        self.degraded = ""  # why the disk does not hold everything, or ""
        self.notice = ""  # what was wrong with the file at the start, or ""
        self.epoch = str(uuid.uuid4())
        self._owner = _own(path)
        try:
            self._open()
        except BaseException:
            self._release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what the disk may still lack, and close the file. Calling it again does nothing."""
        with self._lock:
            if self._owner is None:
                return
            try:
                if self.degraded and not self._save() and self._changes.messages:
                    _LOG.error("outbox %s: %d messages are lost", self._path, len(self._changes.messages))
                if self._store is not None:
                    self._store.close()
            except DeliveryError as error:
                _LOG.warning("%s", error.render())
            finally:
                self._store = None
                self._release()

    # --- The ledger --------------------------------------------------------------------------------------------------

    def next_seq(self, camera: str) -> int:
        """Return the number of this camera's next clip; `open_clip` uses it up."""
        with self._lock:
            return self._ledger.next_seq(camera)

    def open_clip(self, row: ClipRow) -> None:
        """Take a clip in hand: from now on it ends exactly once, in this life or in the next.

        Raises:
            DeliveryError: The clip is in hand already or its number is not the next one.
        """
        with self._lock:
            self._ledger.open(row)
            self._changes.clips[row.clip_id] = row
            self._changes.cameras[row.camera] = self._ledger.cameras[row.camera]
            self._save()

    def open_clips(self) -> list[ClipRow]:
        """Return the clips in hand, oldest first; right after the start these are left over from a killed run."""
        with self._lock:
            return list(self._ledger.clips.values())

    def coverage(self) -> dict[str, CoverageRow]:
        """Return, by camera, the seconds of all clips since the epoch began, by what became of them."""
        with self._lock:
            return self._ledger.coverage()

    def answer(
        self,
        clip_id: str,
        prompt: str,
        messages: Sequence[Outgoing],
        notes: Mapping[str, str] | None = None,
    ) -> tuple[Dropped, ...]:
        """Note that a clip is answered to one prompt and queue the answer, in one transaction; the clip stays in hand.

        The rest is as in `commit`.
        """
        with self._lock:
            self._changes.clips[clip_id] = self._ledger.answer(clip_id, prompt)
            return self._put(messages, notes)

    def commit(
        self,
        clip_id: str,
        outcome: Outcome,
        seconds: float,
        messages: Sequence[Outgoing],
        notes: Mapping[str, str] | None = None,
    ) -> tuple[Dropped, ...]:
        """End a clip and queue what is said of it, in one transaction.

        Args:
            clip_id: A clip in hand.
            outcome: What became of it.
            seconds: Length that it really got.
            messages: In the order in which they shall go out; ids that wait already are passed over.
            notes: Replaces what was noted under these keys.

        Returns:
            What had to be dropped to keep the bound, oldest first; `losses` keeps it until it is announced.

        Raises:
            DeliveryError: The clip is not in hand: it was never opened, or it has ended.
        """
        with self._lock:
            row = self._ledger.end(clip_id, outcome, seconds)
            self._changes.clips.pop(clip_id, None)
            self._changes.ended.add(clip_id)
            self._changes.cameras[row.camera] = self._ledger.cameras[row.camera]
            return self._put(messages, notes)

    def note(self, key: str) -> str:
        """Return what was noted last under a key, or ""; a file that was set aside has taken its notes along."""
        with self._lock:
            return self._notes.get(key, "")

    # --- The queue ---------------------------------------------------------------------------------------------------

    def add(
        self, messages: Sequence[Outgoing], notes: Mapping[str, str] | None = None
    ) -> tuple[Dropped, ...]:
        """Queue messages without ending a clip; the rest is as in `commit`."""
        with self._lock:
            return self._put(messages, notes)

    def pending(self, limit: int, *, without: Collection[str] = ()) -> list[Outgoing]:
        """Return what waits, oldest first.

        Args:
            limit: At most so many messages.
            without: Cameras to pass over.
        """
        with self._lock:
            chosen = (key for key, entry in self._queue.items() if entry.camera not in without)
            ids = list(islice(chosen, limit))
            stored = [key for key in ids if key not in self._changes.messages]
            found = {**self._read(stored), **self._changes.messages}
            return [found[key] for key in ids if key in found]

    def ack(self, *ids: str) -> None:
        """Remove delivered messages; ids that do not wait (any longer) are passed over."""
        with self._lock:
            known = [key for key in dict.fromkeys(ids) if key in self._queue]
            for key in known:
                self._remove(key)
            if known:
                self._overflowing = False
                self._save()

    def losses(self) -> tuple[Loss, ...]:
        """Return what was dropped and is to be announced, in a bounded number of records: one a topic.

        A record is written with the drop itself, in one transaction, and never dropped.
        """
        with self._lock:
            return tuple(self._losses.values())

    def announced(self, losses: Iterable[Loss]) -> None:
        """Forget losses that subscribers have been told of; one that has grown since is to be told again, whole."""
        with self._lock:
            told = [loss for loss in losses if self._losses.get((loss.camera, loss.topic)) == loss]
            for loss in told:
                del self._losses[loss.camera, loss.topic]
                self._changes.losses[loss.camera, loss.topic] = None
            if told:
                self._save()

    def stats(self) -> OutboxStats:
        """Return how much waits and how many messages were dropped."""
        with self._lock:
            return OutboxStats(pending=len(self._queue), bytes=self._bytes, dropped=self._dropped)

    def _put(
        self, messages: Iterable[Outgoing], notes: Mapping[str, str] | None = None
    ) -> tuple[Dropped, ...]:
        if notes:
            self._notes.update(notes)
            self._changes.notes.update(notes)
        for message in messages:
            if message.id not in self._queue:
                size = len(message.payload) + len(message.topic.encode())
                self._append(Queued(message.id, message.camera, message.topic, message.seq, size))
                self._changes.messages[message.id] = message
        dropped = self._trim()
        if not self._save():
            dropped += self._trim_memory()
        if dropped and not self._overflowing:
            self._overflowing = True
            _LOG.warning("outbox %s is full: the oldest messages are dropped, and counted", self._path)
        return tuple(dropped)

    def _append(self, entry: Queued) -> None:
        self._queue[entry.id] = entry
        self._bytes += entry.size + OVERHEAD_BYTES

    def _remove(self, key: str) -> None:
        self._bytes -= self._queue.pop(key).size + OVERHEAD_BYTES
        self._changes.messages.pop(key, None)
        self._changes.gone.add(key)

    def _drop(self, key: str) -> Dropped:
        entry = self._queue[key]
        self._remove(key)
        self._dropped += 1
        self._changes.dropped = self._dropped
        where = (entry.camera, entry.topic)
        loss = self._losses.get(where, Loss(*where, 0, None, None, 0)).and_one(entry.seq, self._dropped)
        self._losses[where] = self._changes.losses[where] = loss
        return Dropped(key, entry.camera)

    def _trim(self) -> list[Dropped]:
        dropped = []
        while self._bytes > self._max_bytes:
            dropped.append(self._drop(next(iter(self._queue))))
        return dropped

    def _trim_memory(self) -> list[Dropped]:
        excess = sum(self._queue[key].size for key in self._changes.messages) - MEMORY_MAX_BYTES
        dropped = []
        for key in list(self._changes.messages):
            if excess <= 0:
                break
            excess -= self._queue[key].size
            dropped.append(self._drop(key))
        return dropped

    # --- The disk ----------------------------------------------------------------------------------------------------

    @property
    def _marker(self) -> Path:
        """An empty file that exists while memory knows more than the disk.

        If the process dies then, numbers may have been used of which the disk knows nothing: the next run must
        not use them again, so it begins a new epoch. A full disk usually still takes an empty file.
        """
        return self._path.with_name(self._path.name + ".behind")

    def _open(self) -> None:
        try:
            self._store = self._open_store()
            self._load(self._store)
        except DamagedError as error:
            self._set_aside(error)
            self._save()
        except UnwritableError as error:
            self._unread = self._path.exists()
            self._degrade(error)

    def _open_store(self) -> Store:
        try:
            return Store(self._path, epoch=self.epoch)
        except UnwritableError:
            if not self._path.exists():
                raise
            # A full disk has no room for the index that SQLite shares between processes; alone it needs none.
            return Store(self._path, alone=True)

    def _load(self, store: Store) -> None:
        self._ledger = Ledger(store.cameras(), store.clips())
        for entry in store.queued():
            self._append(entry)
        self._losses = {(loss.camera, loss.topic): loss for loss in store.losses()}
        self._dropped = store.dropped()
        self._notes = store.notes() | self._changes.notes
        self.epoch = store.epoch()
        if self._marker.exists():
            self.notice = "the disk did not hold everything when the last run ended; a new epoch begins"
            _LOG.warning("outbox %s: %s", self._path, self.notice)
            self.epoch = self._changes.epoch = str(uuid.uuid4())
            if self._save():
                self._marker.unlink(missing_ok=True)

    def _set_aside(self, error: DamagedError) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None
        aside = set_aside(self._path)
        self.notice = f"{error.what} ({'; '.join(error.evidence)}); it is now {aside.name}"
        _LOG.error("%s", self.notice)

    def _save(self) -> bool:
        """Write to the file what memory has beyond it; False if the disk did not take it."""
        try:
            try:
                self._write()
            except DamagedError as error:
                self._rebuild(error)
                self._write()
        except (UnwritableError, DamagedError) as error:
            self._degrade(error)
            return False
        self._changes = Changes()
        if self.degraded:
            self.degraded = ""
            self._marker.unlink(missing_ok=True)
            _LOG.info("outbox %s: everything is on disk again", self._path)
        return True

    def _write(self) -> None:
        if self._unread:  # what it holds was never loaded; the next start will
            raise UnwritableError("the outbox could not be read", evidence=[self.degraded])
        if self._store is None:
            self._store = self._open_store()
        self._store.write(self._changes)

    def _rebuild(self, error: DamagedError) -> None:
        """Go on after the file went bad under us: the ledger is in memory, stored messages are lost and counted."""
        self._set_aside(error)
        for key in [key for key in self._queue if key not in self._changes.messages]:
            self._drop(key)
        self._changes = Changes(
            cameras=dict(self._ledger.cameras),
            clips=dict(self._ledger.clips),
            messages=self._changes.messages,
            losses=dict(self._losses),
            dropped=self._dropped,
            notes=dict(self._notes),
        )

    def _read(self, ids: Sequence[str]) -> dict[str, Outgoing]:
        if self._store is None or not ids:
            return {}
        try:
            return self._store.messages(ids)
        except UnwritableError as error:  # newer messages that memory holds still go out
            self._degrade(error)
        except DamagedError as error:
            self._rebuild(error)
            self._save()
        return {}

    def _degrade(self, error: DeliveryError) -> None:
        reason = "; ".join(error.evidence) or error.what
        if not self.degraded:
            _LOG.error("outbox %s: the disk takes nothing (%s); messages wait in memory", self._path, reason)
            try:
                self._marker.touch(mode=0o600)
            except OSError as failure:
                _LOG.warning("outbox %s: %s", self._marker, failure.strerror)
        self.degraded = reason

    def _release(self) -> None:
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None


def _own(path: Path) -> int | None:
    """Take the lock file beside the outbox; a killed owner's lock is free again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise DeliveryError(
            f"the directory of the outbox {path} cannot be used",
            evidence=[error.strerror or str(error)],
            next_step="Make it writable for the service, or set outbox.path.",
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise DeliveryError(
            f"the outbox {path} is in use by another process",
            next_step="Stop the other `edge run`, or give this one its own outbox.path.",
        ) from error
    return handle
