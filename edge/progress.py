"""What a terminal can show: a progress bar on standard error, bars and colours on standard output; nothing elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from edge.answer.text import Style, plain

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from edge.shell import Watcher

_PARTS = {
    "load": "loading the model",
    "watch": "looking at the clip",
    "vision": "measuring vision",
    "tokens": "measuring prefill and decode",
    "answers": "measuring answers",
}
_UNITS = {
    "watch": " pairs",
    "vision": "",
    "tokens": "",
    "answers": "",
}  # of any other part, an answer: tokens


class _Silent:
    def begin(self, what: str, total: int | None) -> None:
        """Say nothing."""

    def step(self, done: int) -> None:
        """Say nothing."""


class _Bar:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._of = ""

    def begin(self, what: str, total: int | None) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._of = "" if total is None else f"/{total}{_UNITS.get(what, ' tokens')}"
        words = _PARTS.get(what, f"writing: {plain(what)}")
        self._task = self._progress.add_task(words, total=total, count="")

    def step(self, done: int) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=done, count=f"{done}{self._of}")


def style_of(stream: TextIO) -> Style:
    """Return what a stream can show; NO_COLOR (no-color.org), set to anything, and TERM=dumb keep colours away."""
    if not stream.isatty():
        return Style()
    encoding = (stream.encoding or "").lower().replace("-", "").replace("_", "")
    coloured = not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    return Style(bars=encoding == "utf8", colour=coloured)


@contextmanager
def progress() -> Iterator[Watcher]:
    """Yield who is to be told; the bar is gone when the block ends."""
    if not sys.stderr.isatty():
        yield _Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[count]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _Bar(bar)
