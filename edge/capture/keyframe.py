"""Chooses the key frame of a clip: the moment at which most differs from what the camera usually shows, if it is sharp.

What usually is there (the background) is learnt over minutes, so a parked car fades into it and a passer-by does not. Of
moments that are equally full the first sharp one stays: a later one must be clearly better, so that only a few of a
clip's pictures are ever converted at full size. Pure numpy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 8  # pixels at model size to a side of what is compared
LEVELS = 8.0  # of 255: a block that differs by more from the background holds something
MEMORY_S = 300.0  # in which the background forgets
BETTER = 1.1  # so much more a moment must have than the one kept
EMPTY = 0.01  # of the picture: where nothing differs, sharpness alone decides
SHARP_MOST = 1.5  # a picture that is sharper than the usual one counts for at most so much more


class KeyFrames:
    """Looks at the pictures of one camera, clip after clip.

    Args:
        fps: Ticks per second; of each two one picture is looked at.
    """

    def __init__(self, fps: float) -> None:
        self._slow = 2 / fps / MEMORY_S
        self._background: NDArray[np.float32] | None = None
        self._usual = 0.0  # sharpness
        self._seen = 0
        self._best = -1.0  # a clip's first picture is better than none

    def begin(self) -> None:
        """Begin the next clip; what was learnt of the camera goes on."""
        self._best = -1.0

    def see(self, frame: NDArray[np.uint8]) -> bool:
        """Say whether a picture, uint8 (height, width, 3) at model size, is to be the key frame so far."""
        green = frame[:, :, 1]
        blocks = _means(green)
        if self._background is None or self._background.shape != blocks.shape:
            self._background, self._seen = blocks.copy(), 0
        differs = np.abs(blocks - self._background)
        full = float((differs - np.median(differs) > LEVELS).mean())  # the light may change all over
        sharp = float(np.abs(np.diff(green.astype(np.int16), axis=1)).mean())
        rate = max(1 / (self._seen + 1), self._slow)
        self._background += rate * (blocks - self._background)
        self._usual += rate * (sharp - self._usual)
        self._seen += 1
        score = (full + EMPTY) * min(SHARP_MOST, sharp / max(self._usual, 1e-6))
        if score <= BETTER * self._best:
            return False
        self._best = score
        return True


def _means(plane: NDArray[np.uint8]) -> NDArray[np.float32]:
    rows, columns = plane.shape[0] // BLOCK, plane.shape[1] // BLOCK
    blocks = plane[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    means: NDArray[np.float32] = blocks.mean((1, 3), dtype=np.float32)
    return means
