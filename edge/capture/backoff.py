"""How long to wait before a camera is tried again: longer each time, never in step with other devices."""

from __future__ import annotations

import random

FIRST_S = 0.5
LONGEST_S = 30.0


class Backoff:
    """Exponential waits with jitter: between a half and the whole of 0.5, 1, 2, ... 30 seconds.

    Args:
        rng: Source of the jitter.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._tries = 0

    def next_s(self) -> float:
        """Return the next wait in seconds."""
        longest_s = min(LONGEST_S, FIRST_S * 2.0 ** min(self._tries, 16))
        self._tries += 1
        return longest_s * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin again with the shortest wait."""
        self._tries = 0
