"""The place of one child process, which is filled again when the child is lost, later each time that it was no use."""

from __future__ import annotations

import random
import time

from edge.capture.backoff import Backoff
from edge.daemon.children import Child

LOST_S = 0.5  # until a process whose pipe has ended is gone as well


class Slot:
    """One child after the other. Times are of `time.monotonic`, seconds.

    Attributes:
        child: The present one; None between two.
        starts: How many there have been.
        heard_s: When the present one last spoke, or was spoken to.
        spoken: Whether it has said anything.
        fruitful: Whether it has done what it is for.
        fruitless: Children in a row that were lost without that.
        retry_s: When the next one is due.
    """

    def __init__(self) -> None:
        self.child: Child | None = None
        self.starts = 0
        self.heard_s = 0.0
        self.spoken = False
        self.fruitful = False
        self.fruitless = 0
        self.retry_s = 0.0
        self._backoff = Backoff(random.Random())  # noqa: S311  # jitter, no secret

    @property
    def restarts(self) -> int:
        """How often a child was replaced."""
        return max(0, self.starts - 1)

    def due(self) -> bool:
        """Whether the place is empty and should be filled now."""
        return self.child is None and time.monotonic() >= self.retry_s

    def started(self, child: Child) -> None:
        """Fill the place."""
        self.child = child
        self.starts += 1
        self.heard_s = time.monotonic()
        self.spoken = self.fruitful = False

    def heard(self) -> None:
        """Note that the child spoke."""
        self.heard_s = time.monotonic()
        self.spoken = True

    def lost(self) -> str:
        """Empty the place and plan the next start, at once after a child that worked. Return how the child ended."""
        how = "it did not start" if self.child is None else self.child.close(patience_s=LOST_S)
        self.child = None
        worked, self.fruitful = self.fruitful, False
        if worked:
            self.fruitless = 0
            self._backoff.reset()
            self.retry_s = time.monotonic()
        else:
            self.fruitless += 1
            self.retry_s = time.monotonic() + self._backoff.next_s()
        return how

    def kill_if_silent(self, limit_s: float) -> bool:
        """Kill a child that has said nothing for so long; its end is heard of in the usual way."""
        if self.child is None or time.monotonic() - self.heard_s <= limit_s:
            return False
        self.heard_s = time.monotonic()
        self.child.kill()
        return True
