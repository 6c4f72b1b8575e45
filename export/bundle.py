"""Writes a bundle aside and renames it when it is whole, so nothing unfinished ever carries the bundle's name."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from edge.errors import EdgeError
from edge.model.manifest import MANIFEST, FileEntry, Manifest

CHOICE: Final = "choice.json"  # why the recipe was taken: beside the manifest, outside the bundle's hash
_ALIGNMENT: Final = 4096  # bytes: a page, so that onnxruntime can map a tensor where it lies
_COPY_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Region:
    """A range of bytes in one of the bundle's data files."""

    file: str
    offset: int
    length: int


@dataclass(slots=True)
class DataFile:
    """One file being written from front to back and hashed on the way."""

    name: str
    stream: BinaryIO
    size: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def append(self, chunks: Iterable[memoryview]) -> Region:
        """Write one tensor at the next page boundary."""
        self._put(memoryview(bytes(-self.size % _ALIGNMENT)))
        start = self.size
        for chunk in chunks:
            self._put(chunk)
        return Region(self.name, start, self.size - start)

    def _put(self, data: memoryview) -> None:
        flat = data.cast("B")
        self.stream.write(flat)
        self.digest.update(flat)
        self.size += len(flat)


class Aside:
    """A hidden sibling of OUT in which work is done, removed at the end with all that was not given OUT's name.

    A run that was killed leaves its hidden directory behind; the next run for the same OUT removes it. A lock on the
    directory, which the kernel drops with the process, tells a dead run from a living one.
    """

    def __init__(self, out: Path) -> None:
        """Refuse an OUT that exists, clear what a killed run left, and make the hidden directory.

        Raises:
            EdgeError: OUT exists or cannot be written.
        """
        self.out = out.expanduser().absolute()
        refuse_existing(self.out)
        prefix = f".{self.out.name}.partial-"
        with _writing(self.out):
            self.out.parent.mkdir(parents=True, exist_ok=True)
            for stale in self.out.parent.glob(f"{prefix}*"):
                _remove_if_dead(stale)
            self.path = self.out.parent / f"{prefix}{os.getpid()}"
            self.path.mkdir()
            self._lock = _lock(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.path, ignore_errors=True)  # after a rename it is gone already
        os.close(self._lock)

    def publish(self, finished: Path) -> None:
        """Give a finished directory, this one or one within it, the name OUT.

        Raises:
            EdgeError: OUT has come into being meanwhile, or the disk refused.
        """
        refuse_existing(self.out)
        with _writing(self.out):
            finished.rename(self.out)
            _sync(self.out.parent)


class BundleWriter(Aside):
    """A bundle in the making, removed unless `finish` is reached."""

    def __init__(self, out: Path) -> None:
        """Begin.

        Raises:
            EdgeError: OUT exists or cannot be written.
        """
        super().__init__(out)
        self._files: dict[str, FileEntry] = {}

    @contextlib.contextmanager
    def data_file(self, name: str) -> Iterator[DataFile]:
        """Open a file of the bundle for writing.

        Raises:
            EdgeError: The disk refused, for example because it is full.
        """
        with _writing(self.out), (self.path / name).open("xb") as stream:
            written = DataFile(name, stream)
            yield written
            stream.flush()
            os.fsync(stream.fileno())
        self._files[name] = FileEntry(size=written.size, sha256=written.digest.hexdigest())

    def write(self, name: str, data: bytes) -> None:
        """Write one small file whole."""
        with self.data_file(name) as file:
            file.append([memoryview(data)])

    def copy(self, name: str, source: Path) -> None:
        """Copy a file into the bundle."""
        with self.data_file(name) as file, source.open("rb") as stream:
            file.append(memoryview(chunk) for chunk in iter(lambda: stream.read(_COPY_BYTES), b""))

    @property
    def files(self) -> dict[str, FileEntry]:
        """Size and hash of every file so far, sorted by name."""
        return dict(sorted(self._files.items()))

    def finish(self, manifest: Manifest, verify: Callable[[Path], None]) -> None:
        """Write the manifest, have the whole directory verified, and give it its name.

        Raises:
            EdgeError: ``verify`` found a fault, OUT has come into being meanwhile, or the disk refused.
        """
        with _writing(self.out):
            with (self.path / MANIFEST).open("xb") as stream:
                stream.write(manifest.dump())
                stream.flush()
                os.fsync(stream.fileno())
            _sync(self.path)
        verify(self.path)
        self.publish(self.path)


def refuse_existing(out: Path) -> None:
    """Raise an EdgeError if anything lies at OUT: a bundle is never overwritten."""
    if os.path.lexists(out):
        raise EdgeError(
            f"{out} exists already",
            next_step="A bundle is never overwritten: name another, or remove it first.",
        )


@contextlib.contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EdgeError(
            f"{out} cannot be written",
            evidence=[str(error)],
            next_step="Nothing was left there. Check the free space and the rights of the directory, then run it again.",
        ) from error


def _lock(directory: Path) -> int:
    """Lock a directory for the life of this process.

    Raises:
        BlockingIOError: Another process holds it.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _remove_if_dead(partial: Path) -> None:
    try:
        descriptor = _lock(partial)
    except (BlockingIOError, NotADirectoryError, FileNotFoundError):
        return  # another conversion is at work there, or it is none of ours
    try:
        shutil.rmtree(partial, ignore_errors=True)
    finally:
        os.close(descriptor)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
