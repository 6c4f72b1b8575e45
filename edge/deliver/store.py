"""The outbox's file: one SQLite database, its schema, and the one place where SQLite's errors are translated."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from sys import intern

from edge.deliver.ledger import CameraRow, ClipRow
from edge.errors import DeliveryError

APPLICATION_ID = 0x65636C70  # "eclp": tells our files from other SQLite databases
SCHEMA_VERSION = 3
BUSY_TIMEOUT_S = 5.0
PAGE_BYTES = 1024  # a commit writes whole pages; SQLite's usual 4096 writes nearly twice as much in a day
NOTE = "note/"  # begins the keys of what others want kept
DAMAGED_KEPT = 2  # files set aside that stay on the disk; older ones are deleted

_LOSS = """
CREATE TABLE loss (
    camera TEXT NOT NULL, topic TEXT NOT NULL, count INTEGER NOT NULL, first_seq INTEGER, last_seq INTEGER,
    grown INTEGER NOT NULL,
    PRIMARY KEY (camera, topic)
) WITHOUT ROWID;
"""
_SCHEMA = f"""
BEGIN IMMEDIATE;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE camera (
    camera TEXT PRIMARY KEY, next_seq INTEGER NOT NULL,
    answered_s REAL NOT NULL, partial_s REAL NOT NULL, skipped_s REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE clip (
    n INTEGER PRIMARY KEY, clip_id TEXT NOT NULL UNIQUE, camera TEXT NOT NULL, seq INTEGER NOT NULL,
    t_start TEXT NOT NULL, seconds REAL NOT NULL, clock_synced INTEGER NOT NULL, answered TEXT NOT NULL DEFAULT ''
);
CREATE TABLE message (
    n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, topic TEXT NOT NULL, payload BLOB NOT NULL, camera TEXT NOT NULL,
    seq INTEGER
);
{_LOSS}
COMMIT;
"""

# What each version lacks towards the next one: 1 had no numbers beside its messages and did not keep what was dropped,
# 2 did not know which prompts of a clip in hand were answered.
_UPGRADES = {
    1: f"ALTER TABLE message ADD COLUMN seq INTEGER; {_LOSS}",
    2: "ALTER TABLE clip ADD COLUMN answered TEXT NOT NULL DEFAULT '';",
}

# What SQLite answers when the disk is full, failing, read-only or locked by somebody: worth trying again later.
_UNWRITABLE = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_UNWRITABLE_ERRNO = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


class UnwritableError(DeliveryError):
    """The disk does not take (or give) anything at the moment."""


class DamagedError(DeliveryError):
    """The file is not an outbox, or no longer."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message for the broker, QoS 1 and not retained.

    Attributes:
        id: Key by which duplicates are recognised: the same id is the same work.
        camera: Whose message it is, or ""; messages of one camera keep their order.
        seq: Number of the clip of which it speaks, by which its loss would be announced; None if it speaks of none.
    """

    id: str
    topic: str
    payload: bytes
    camera: str
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class Loss:
    """What was dropped of one topic since an announcement of it was last acknowledged.

    Attributes:
        count: Messages dropped.
        first_seq: Least number of a clip among them; None if none of them speaks of a clip.
        last_seq: Greatest one.
        grown: The outbox's count of dropped messages when this record last grew; no other record has or had the same.
    """

    camera: str
    topic: str
    count: int
    first_seq: int | None
    last_seq: int | None
    grown: int

    def and_one(self, seq: int | None, grown: int) -> Loss:
        """Return the loss with one more message."""
        seqs = [n for n in (self.first_seq, self.last_seq, seq) if n is not None]
        first, last = (min(seqs), max(seqs)) if seqs else (None, None)
        return replace(self, count=self.count + 1, first_seq=first, last_seq=last, grown=grown)


@dataclass(slots=True)
class Changes:
    """What memory knows and the file does not yet."""

    cameras: dict[str, CameraRow] = field(default_factory=dict)
    clips: dict[str, ClipRow] = field(default_factory=dict)  # opened, or answered in part
    ended: set[str] = field(default_factory=set)
    messages: dict[str, Outgoing] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    losses: dict[tuple[str, str], Loss | None] = field(default_factory=dict)  # None: announced
    dropped: int | None = None
    epoch: str | None = None
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Queued:
    """A stored message without its payload; ``size`` is the bytes of payload and topic."""

    id: str
    camera: str
    topic: str
    seq: int | None
    size: int


class Store:
    """An open outbox file. Not thread-safe; `edge.deliver.outbox` holds the lock.

    Args:
        path: The file; it is made, readable by its owner only, where there is none.
        epoch: State epoch that a new file gets.
        read_only: Look only: the file must exist and nothing is written.
        alone: Do without the index that SQLite shares between processes (a file of its own); nobody else can look.

    Raises:
        DamagedError: The file is not an outbox of this version, or SQLite finds it damaged.
        UnwritableError: The disk is full, failing or read-only.
        DeliveryError: The file cannot be opened for another reason (permissions, a directory).
    """

    def __init__(self, path: Path, *, epoch: str = "", read_only: bool = False, alone: bool = False) -> None:
        self.path = path
        with _translated(path):
            if not read_only:
                _create(path, epoch)
            uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
            self._db = sqlite3.connect(
                uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        try:
            with _translated(path):
                if alone:
                    self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
                version = self._check(
                    old_will_do=not read_only
                )  # before anything is written: the file may be somebody else's
                if not read_only:
                    self._db.execute("PRAGMA journal_mode = WAL")
                    self._db.execute("PRAGMA synchronous = FULL")
                    self._upgrade(version)
        except DeliveryError:
            self._db.close()
            raise

    def _check(self, *, old_will_do: bool) -> int:
        """Return the version of the schema; the present one, unless an older one will do."""
        size = self.path.stat().st_size
        if size == 0:
            raise _damaged(self.path, "it is empty")
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION_ID:
            raise _damaged(self.path, "it is another program's database")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version != SCHEMA_VERSION and version not in _UPGRADES:
            raise _damaged(self.path, f"its schema version is {version}, this program's is {SCHEMA_VERSION}")
        if version != SCHEMA_VERSION and not old_will_do:
            raise DeliveryError(
                f"the outbox {self.path} was written by an older edgeclip",
                next_step="The daemon brings it up to date at its next start.",
            )
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise _damaged(self.path, str(verdict))
        return int(version)

    def _upgrade(self, version: int) -> None:
        """Bring the schema up to date, all of it or nothing."""
        if version != SCHEMA_VERSION:
            steps = [_UPGRADES[step] for step in range(version, SCHEMA_VERSION)]
            script = f"BEGIN IMMEDIATE; {' '.join(steps)} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            _run(self._db, script)

    def close(self) -> None:
        """Close the file; the last one to close it folds the write-ahead log in."""
        with _translated(self.path):
            self._db.close()

    def epoch(self) -> str:
        """Return the state epoch."""
        return self._meta("epoch")

    def dropped(self) -> int:
        """Return how many messages had to be dropped since the epoch began."""
        return int(self._meta("dropped"))

    def notes(self) -> dict[str, str]:
        """Return what was noted, by key."""
        with _translated(self.path):
            rows = self._db.execute("SELECT key, value FROM meta WHERE key LIKE ?", (f"{NOTE}%",))
            return {str(key).removeprefix(NOTE): str(value) for key, value in rows}

    def _meta(self, key: str) -> str:
        with _translated(self.path):
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise _damaged(self.path, f"it has no {key}")
        return str(row[0])

    def cameras(self) -> list[CameraRow]:
        """Return the totals of every camera ever seen."""
        with _translated(self.path):
            rows = self._db.execute("SELECT camera, next_seq, answered_s, partial_s, skipped_s FROM camera")
            return [CameraRow(*row) for row in rows]

    def clips(self) -> list[ClipRow]:
        """Return the clips in hand, in the order in which they were opened."""
        with _translated(self.path):
            rows = self._db.execute(
                "SELECT clip_id, camera, seq, t_start, seconds, clock_synced, answered FROM clip ORDER BY n"
            )
            return [
                ClipRow(clip_id, camera, seq, t_start, seconds, bool(synced), tuple(answered.split()))
                for clip_id, camera, seq, t_start, seconds, synced, answered in rows
            ]

    def queued(self) -> list[Queued]:
        """Return all messages, oldest first, without their payloads."""
        with _translated(self.path):
            rows = self._db.execute(
                "SELECT id, camera, topic, seq, length(payload) + length(CAST(topic AS BLOB)) FROM message ORDER BY n"
            )
            # Few topics and cameras, many messages: each name is held once.
            return [
                Queued(key, intern(camera), intern(topic), seq, size)
                for key, camera, topic, seq, size in rows
            ]

    def losses(self) -> list[Loss]:
        """Return what was dropped and not announced yet."""
        with _translated(self.path):
            rows = self._db.execute("SELECT camera, topic, count, first_seq, last_seq, grown FROM loss")
            return [Loss(*row) for row in rows]

    def messages(self, ids: Sequence[str]) -> dict[str, Outgoing]:
        """Return the messages with these ids, by id; a few at a time."""
        marks = ",".join("?" * len(ids))
        with _translated(self.path):
            rows = self._db.execute(
                f"SELECT id, topic, payload, camera, seq FROM message WHERE id IN ({marks})",  # noqa: S608 - only marks
                ids,
            )
            return {row[0]: Outgoing(*row) for row in rows}

    def write(self, changes: Changes) -> None:
        """Write all changes in one transaction: afterwards the file holds all of them or none."""
        with _translated(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._write(changes)
                self._db.execute("COMMIT")
            except sqlite3.Error:
                if self._db.in_transaction:  # SQLite rolls back by itself where the disk is full
                    self._db.execute("ROLLBACK")
                raise

    def _write(self, changes: Changes) -> None:
        db = self._db
        db.executemany(
            "INSERT OR REPLACE INTO camera VALUES (?, ?, ?, ?, ?)",
            [
                (c.camera, c.next_seq, c.answered_s, c.partial_s, c.skipped_s)
                for c in changes.cameras.values()
            ],
        )
        db.executemany(
            "INSERT INTO clip (clip_id, camera, seq, t_start, seconds, clock_synced, answered) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (clip_id) DO UPDATE SET answered = excluded.answered",
            [
                (c.clip_id, c.camera, c.seq, c.t_start, c.seconds, c.clock_synced, " ".join(c.answered))
                for c in changes.clips.values()
            ],
        )
        db.executemany("DELETE FROM clip WHERE clip_id = ?", [(clip_id,) for clip_id in changes.ended])
        # First out, then in: an id that was acknowledged and comes again is new work for the queue.
        db.executemany("DELETE FROM message WHERE id = ?", [(key,) for key in changes.gone])
        db.executemany(
            "INSERT OR IGNORE INTO message (id, topic, payload, camera, seq) VALUES (?, ?, ?, ?, ?)",
            [(m.id, m.topic, m.payload, m.camera, m.seq) for m in changes.messages.values()],
        )
        db.executemany(
            "DELETE FROM loss WHERE camera = ? AND topic = ?",
            [key for key, loss in changes.losses.items() if loss is None],
        )
        db.executemany(
            "INSERT OR REPLACE INTO loss VALUES (?, ?, ?, ?, ?, ?)",
            [astuple(loss) for loss in changes.losses.values() if loss],
        )
        for key, value in (("dropped", changes.dropped), ("epoch", changes.epoch)):
            if value is not None:
                db.execute("UPDATE meta SET value = ? WHERE key = ?", (str(value), key))
        db.executemany(
            "INSERT OR REPLACE INTO meta VALUES (?, ?)",
            [(NOTE + key, value) for key, value in changes.notes.items()],
        )


def set_aside(path: Path) -> Path:
    """Rename a damaged file and its write-ahead log, keep the newest few such files, and return the new name.

    Raises:
        DeliveryError: The file cannot be renamed.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    with _translated(path):
        path.rename(aside)
        for suffix in ("-wal", "-shm"):
            beside = path.with_name(path.name + suffix)
            if beside.exists():  # it may hold what the file itself no longer shows
                beside.rename(aside.with_name(aside.name + suffix))
        older = sorted(p for p in path.parent.glob(f"{path.name}.damaged-*Z"))
        for old in older[:-DAMAGED_KEPT]:
            for suffix in ("", "-wal", "-shm"):
                old.with_name(old.name + suffix).unlink(missing_ok=True)
    return aside


def _create(path: Path, epoch: str) -> None:
    """Make the file, for its owner only, and its directory, unless it exists.

    It gets its name once it is whole and on the disk: a power cut leaves all of it or nothing.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(FileNotFoundError):
        os.close(os.open(path, os.O_RDWR))  # says why it cannot be used, where SQLite would only say that
        return
    new = path.with_name(path.name + ".new")
    try:
        for left in (
            new,
            *_beside(new),
            *_beside(path),
        ):  # another file's log would be replayed into this one
            left.unlink(missing_ok=True)
        handle = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            _fill(new, epoch)
            os.fsync(handle)
        finally:
            os.close(handle)
        new.rename(path)
    except (OSError, sqlite3.Error):
        for left in (new, *_beside(new)):
            left.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _fill(path: Path, epoch: str) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        _run(db, _SCHEMA)
        db.execute("INSERT INTO meta VALUES ('epoch', ?), ('dropped', '0')", (epoch,))
        db.execute("PRAGMA journal_mode = WAL")
    finally:
        db.close()


def _run(db: sqlite3.Connection, script: str) -> None:
    """Run a script that is one transaction."""
    try:
        db.executescript(script)
    except sqlite3.Error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _beside(path: Path) -> list[Path]:
    """Return the names of the files that SQLite keeps beside a database."""
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _damaged(path: Path, evidence: str) -> DamagedError:
    return DamagedError(f"the outbox {path} is damaged", evidence=[evidence])


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the primary result code
        text = f"SQLite: {error}"
        if code in _DAMAGED:
            raise DamagedError(f"the outbox {path} is damaged", evidence=[text]) from error
        if code in _UNWRITABLE:
            raise UnwritableError(f"the outbox {path} cannot be written", evidence=[text]) from error
        raise DeliveryError(f"the outbox {path} cannot be used", evidence=[text]) from error
    except OSError as error:
        text = error.strerror or str(error)
        if error.errno in _UNWRITABLE_ERRNO:
            raise UnwritableError(f"the outbox {path} cannot be written", evidence=[text]) from error
        raise DeliveryError(
            f"the outbox {path} cannot be opened",
            evidence=[text],
            next_step="Make its directory writable for the service, or set outbox.path.",
        ) from error
