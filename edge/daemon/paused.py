"""Which cameras are paused, in a small file beside the outbox, so that a restart does not begin to look again."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path


class PausedFile:
    """The file; it is there only while something is paused.

    Args:
        outbox: The outbox's file.
    """

    def __init__(self, outbox: Path) -> None:
        self._path = outbox.with_name(outbox.name + ".paused")

    def read(self, cameras: Collection[str]) -> tuple[set[str], str]:
        """Return the paused ones of these cameras, and what is wrong with the file, or "".

        A file that cannot be read pauses all of them: somebody wanted a camera not to look.
        """
        try:
            names = json.loads(self._path.read_text(encoding="utf-8"))
            if not isinstance(names, list):
                raise TypeError("it holds no list")  # noqa: TRY301 - one way out for all that is wrong
        except FileNotFoundError:
            return set(), ""
        except (OSError, ValueError, TypeError) as error:
            return set(cameras), f"{self._path} cannot be read ({error}): all cameras stay paused"
        return set(cameras).intersection(name for name in names if isinstance(name, str)), ""

    def write(self, paused: Collection[str]) -> str:
        """Replace the file in one step; return why the disk did not take it, or ""."""
        fresh = self._path.with_name(self._path.name + ".new")
        try:
            if not paused:
                self._path.unlink(missing_ok=True)
            else:
                with fresh.open("w", encoding="utf-8") as file:
                    json.dump(sorted(paused), file)
                    file.flush()
                    os.fsync(file.fileno())
                fresh.replace(self._path)
            directory = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            return error.strerror or str(error)
        return ""
