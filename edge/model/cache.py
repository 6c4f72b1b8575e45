"""Keys or values of one layer in eight bits: one scale per head and channel, widened when a larger value comes."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

LARGEST: Final = 127
HEADROOM: Final = 1.25
"""A scale is set so that values may grow by this before it must be widened; it costs a third of a bit."""


class RoundedRows:
    """The rows of one state.

    Nothing is calibrated: a scale follows the largest value that its channel has shown. Where that grows, the rows before
    are rounded once more, at most a few times in a clip. Whoever returns to a point finds the rows before it, and the scales,
    bit for bit as they were there: else an answer would depend on what was asked before.

    Args:
        heads: Key-value heads.
        rows: Rows of the arena.
        size: Channels of a head.

    Attributes:
        values: int8, shape (1, heads, rows, size).
        scale: float32, shape (1, heads, 1, size); a value is its int8 times its scale.
    """

    def __init__(self, heads: int, rows: int, size: int) -> None:
        self.values: NDArray[np.int8] = np.zeros((1, heads, rows, size), np.int8)
        self.scale: NDArray[np.float32] = np.full((1, heads, 1, size), np.finfo(np.float32).tiny, np.float32)
        # Of each channel that was widened since the first point: head, channel, scale and values before. None: no point yet.
        self._widened: list[tuple[int, int, np.float32, NDArray[np.int8]]] | None = None

    def point(self) -> int:
        """Return the present point, for `go_back`: how often a channel was widened since the first one.

        From then on the column of each channel that is widened is kept, one byte a row; going back lets go of it.
        """
        if self._widened is None:
            self._widened = []
        return len(self._widened)

    def go_back(self, point: int) -> bool:
        """Return to a point of `point`: undo what was widened since, the last first.

        Returns:
            Whether there was anything. If so, rows behind the point no longer have the scales that they were rounded by.
        """
        widened = self._widened or []
        changed = len(widened) > point
        while len(widened) > point:
            head, channel, scale, values = widened.pop()
            self.values[0, head, : len(values), channel] = values
            self.scale[0, head, 0, channel] = scale
        return changed

    def forget(self) -> None:
        """Forget all points."""
        self._widened = None

    def write(self, at: int, rows: NDArray[np.float32]) -> None:
        """Round rows and put them behind the first ``at``, which stay what they are but for another rounding.

        Args:
            at: Rows before them.
            rows: Shape (1, heads, n, size).
        """
        largest = np.abs(rows).max(axis=2)[0]
        for head, channel in np.argwhere(largest > LARGEST * self.scale[0, :, 0]):
            self._widen(head, channel, at, largest[head, channel])
        scaled = rows / self.scale
        np.rint(scaled, out=scaled)
        np.clip(scaled, -LARGEST, LARGEST, out=scaled)
        self.values[:, :, at : at + rows.shape[2]] = scaled

    def _widen(self, head: int, channel: int, count: int, largest: np.float32) -> None:
        """Give one channel a wider scale; in a clip most channels need it now and then, few of them at the same time."""
        scale = np.float32(largest * HEADROOM / LARGEST)
        # The arrays are bound to sessions: they are written to, never replaced.
        before = self.values[0, head, :count, channel]
        if self._widened is not None:
            self._widened.append((head, channel, self.scale[0, head, 0, channel], before.copy()))
        before[...] = np.rint(before * (self.scale[0, head, 0, channel] / scale))
        self.scale[0, head, 0, channel] = scale
