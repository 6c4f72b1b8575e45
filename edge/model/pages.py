"""Weights that are mapped from files, and letting go of those that are not needed for a while.

What is let go of stays in the page cache as long as nobody needs the memory, and costs some 30 ms to map again; but it is
no longer this process's resident memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import mmap
import re
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from edge.model.heap import trim

ROWS = 64
"""At most 8 MiB are resident by then: 64 KiB around each row, and as much around its scales."""
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S{4} \S+ \S+ \d+ +(/.*)")  # proc_pid_smaps(5)


def let_go(files: Collection[Path]) -> None:
    """Unmap the resident pages of files, where this process has not written to them.

    Nothing happens where the kernel does not tell what is mapped.
    """
    names = {str(path.resolve()) for path in files}
    if not names:
        return
    with contextlib.suppress(OSError, AttributeError):
        _unmap(_clean(names))


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)  # each loading makes a new class of functions: a quarter of a millisecond


def _unmap(mappings: Collection[tuple[int, int]]) -> None:
    madvise = _libc().madvise
    for begin, end in mappings:
        madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_DONTNEED)


def _clean(names: Collection[str]) -> list[tuple[int, int]]:
    """Return the mappings of files, begin and end; without those that hold pages of this process's own."""
    found: list[tuple[int, int]] = []
    ours = False
    with Path("/proc/self/smaps").open(encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            mapping = _MAPPING.match(line)
            if mapping is not None:
                ours = mapping[3] in names
                if ours:
                    found.append((int(mapping[1], 16), int(mapping[2], 16)))
            elif not line[0].isupper():
                ours = False  # a mapping without a file; what is said of a mapping begins with a capital
            elif ours and line.startswith("Anonymous:") and line.split()[1] != "0":
                found.pop()  # onnxruntime maps writable: what was written would be lost
                ours = False
    return found


class Rows:
    """A file of which single rows are read here and there.

    Linux maps sixteen pages around each, so a table of words in 8 bits became resident by 200 MiB in an answer of 400 words
    of many kinds. Where the file is mapped is looked up once, which takes tens of milliseconds; it must stay mapped, and
    nobody may write to it.

    Args:
        file: The file.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._mappings: list[tuple[int, int]] | None = None
        self._read = 0

    def read(self, count: int) -> None:
        """Note that rows were read, and let go of them when they are `ROWS`."""
        self._read += count
        if self._read < ROWS:
            return
        self._read = 0
        with contextlib.suppress(OSError, AttributeError):
            if self._mappings is None:
                self._mappings = _clean({str(self._file.resolve())})
            _unmap(self._mappings)


class Turns:
    """Seeing and writing take turns, and need different weights.

    Args:
        seeing: Files of the graphs that take the clip in.
        writing: Files of the graph that writes answers; it may take the clip in, too.
    """

    def __init__(self, seeing: Collection[Path], writing: Collection[Path]) -> None:
        self._others = {"seeing": tuple(writing), "writing": tuple(seeing)}
        self._turn: Literal["seeing", "writing"] | None = None

    def begin(self, turn: Literal["seeing", "writing"]) -> None:
        """Let go of what only the other one needs, unless it was this one's turn already."""
        if turn != self._turn:
            self._turn = turn
            let_go(self._others[turn])
            trim()
