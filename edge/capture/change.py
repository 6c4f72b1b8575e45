"""What changes between pictures of one camera, block by block, in units of each block's own noise; pure numpy.

A picture is reduced to the means of blocks of 8 x 8 pixels. Two of them are compared after the light was made equal and
the camera's shake was taken back, and a difference counts for as much as it exceeds what that block usually shows: grain,
leaves and an encoder's pulse are estimated on the way, from the differences themselves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.records import Size

BLOCK = 8  # pixels; a quarter of the model's cell, so that what is smaller than a cell still fills a block

# The largest of three channels of Gaussian noise has its median at 1.27 sigma, so four times the median is five sigma.
NOISE_FACTOR = 4.0
FLOOR_LEVELS = 1.5  # of 255: less than this in the mean of a block is nothing that a viewer would see
NOISE_MOST = 30.0  # levels: a block that differs by more all the time is still looked at
UNKNOWN = 1.5  # how much more a difference must be at the very beginning, beside 1
SETTLE = 24  # pictures until the noise of a block is known well enough to move slowly
SHAKE_PX = 3  # farthest shift that is taken back, pixels at model size
BETTER = 0.02  # correlation by which another shift must fit better than the last one
ALIKE = 0.5  # correlation without which the picture is not the same view, shifted
FOLLOW = 0.02  # how much of each picture goes into what the next ones are held against
MADE_UP = 0.3  # what a difference counts at a side where the picture was shifted in, at once and
RECOVERY = 1.02  # with each picture after
WHOLE_LEVELS = 12.0  # a median difference above this over all blocks is another view, not noise
PULSE = 2.0  # a median of all blocks above so many times the usual is an encoder's pulse or a tremor

Blocks = NDArray[np.float32]
"""Means of blocks, shape (rows, columns, 3)."""
Strength = NDArray[np.float32]
"""How strongly each block differs, shape (rows, columns); 1 is the limit of what noise does."""


class Comparer:
    """Compares pictures of one camera; knows its noise, and where it shook to.

    Args:
        size: Of the pictures, multiples of `BLOCK`.
    """

    def __init__(self, size: Size) -> None:
        self.grid = size.height // BLOCK, size.width // BLOCK
        self._size = size
        self._noise: NDArray[np.float32] | None = None  # median difference of each block, levels
        self._seen = 0
        self._profiles: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        self._shift = 0, 0
        self._trust = np.ones(self.grid, np.float32)

    def reduce(self, frame: NDArray[np.uint8]) -> Blocks:
        """Return the block means of a picture, uint8 (height, width, 3), with the camera's shake taken back."""
        rows, columns = self.grid
        flat = np.ascontiguousarray(frame).reshape(self._size.height, -1)
        strips = _strips(flat, rows)
        shift = self._shake(flat, strips)
        self._trust = np.minimum(1, self._trust * RECOVERY)
        if shift != (0, 0):
            self._distrust(shift)
            flat = _shifted(frame, shift).reshape(self._size.height, -1)
            strips = _strips(flat, rows)
        sums = strips.reshape(rows, columns, BLOCK, 3).sum(2, dtype=np.uint32)
        means: Blocks = sums.astype(np.float32) / (BLOCK * BLOCK)
        return means

    def learn(self, now: Blocks, before: Blocks) -> Strength:
        """Compare two pictures a moment apart, and learn the noise from them."""
        levels = _difference(now, before)
        self._learn(levels)
        return self._strength(levels)

    def strength(self, now: Blocks, then: Blocks) -> Strength:
        """Compare with a picture that may be long past."""
        return self._strength(_difference(now, then))

    def _strength(self, levels: NDArray[np.float32]) -> Strength:
        if self._noise is None:
            return levels / FLOOR_LEVELS
        # Until each block's noise is known, all pass for as noisy as most are, and some are more so.
        doubt = 1 + UNKNOWN * max(0.0, 1 - self._seen / SETTLE)
        found = self._trust * levels / (doubt * (NOISE_FACTOR * self._noise + FLOOR_LEVELS))
        middle = float(np.median(levels))
        if middle < WHOLE_LEVELS:
            found /= max(
                1.0, middle / (PULSE * max(float(np.median(self._noise)), FLOOR_LEVELS / NOISE_FACTOR))
            )
        result: Strength = found.astype(np.float32, copy=False)
        return result

    def _distrust(self, shift: tuple[int, int]) -> None:
        """Believe less of the sides at which the picture had to be made up."""
        down, right = shift
        if down:
            self._trust[-1 if down > 0 else 0] = MADE_UP
        if right:
            self._trust[:, -1 if right > 0 else 0] = MADE_UP

    def _learn(self, levels: NDArray[np.float32]) -> None:
        middle = min(float(np.median(levels)), NOISE_MOST)
        if self._noise is None:
            self._noise = np.full(self.grid, middle, np.float32)
        # A running median: up or down by a share of itself, so neither a passer-by nor an outlier moves it far.
        self._seen += 1
        rate = max(0.03, 1 / (4 + self._seen)) if self._seen < SETTLE else 0.03
        self._noise *= np.where(levels > self._noise, 1 + rate, 1 - rate).astype(np.float32)
        usual = float(np.median(self._noise))
        np.clip(self._noise, max(0.5 * usual, 0.05), NOISE_MOST, out=self._noise)

    def _shake(self, flat: NDArray[np.uint8], strips: NDArray[np.uint16]) -> tuple[int, int]:
        """Return how far down and right the picture lies beside the first one, by its row and column sums."""
        across = np.einsum("ab->b", strips, dtype=np.uint32).reshape(-1, 3).sum(1).astype(np.float32)
        down = np.einsum("ab->a", flat, dtype=np.uint32).astype(np.float32)
        profiles = _slope(down), _slope(across)
        if self._profiles is None:
            self._profiles = profiles
            return 0, 0
        moved = tuple(
            _lag(now, then, last)
            for now, then, last in zip(profiles, self._profiles, self._shift, strict=True)
        )
        if any(lag is None for lag in moved):  # beyond reach: the camera was moved, and this is the new view
            self._profiles = profiles
            self._shift = 0, 0
        else:
            self._shift = moved[0] or 0, moved[1] or 0
            # Dusk, snow and parked cars: what a day does to the view must not pass for shake.
            rows, columns = (
                then + FOLLOW * (np.roll(now, -lag) - then)
                for now, then, lag in zip(profiles, self._profiles, self._shift, strict=True)
            )
            self._profiles = rows, columns
        return self._shift


def _strips(flat: NDArray[np.uint8], rows: int) -> NDArray[np.uint16]:
    # einsum is ten times faster here than a reduction with a wider type; 8 x 255 fits 16 bits.
    found: NDArray[np.uint16] = np.einsum("abc->ac", flat.reshape(rows, BLOCK, -1), dtype=np.uint16)
    return found


def _difference(now: Blocks, then: Blocks) -> NDArray[np.float32]:
    """Return by how many levels each block differs in the channel that differs most, the light made equal."""
    gain = np.median((now + 1) / (then + 1), axis=(0, 1))
    found: NDArray[np.float32] = np.abs(now - then * gain).max(2)
    return found


def _slope(profile: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a profile without its light: differences of neighbours, of unit length."""
    slope = np.diff(profile)
    return slope / (float(np.linalg.norm(slope)) + 1e-6)


def _lag(now: NDArray[np.float32], then: NDArray[np.float32], last: int) -> int | None:
    """Return by how much ``now`` lies behind ``then``; None if that is not within reach.

    A tie, as in a picture without texture, goes to the last known shift, then to the smaller one.
    """
    inner = then[2 * SHAKE_PX : -2 * SHAKE_PX]
    scores = {}
    for lag in range(-SHAKE_PX - 1, SHAKE_PX + 2):
        begin = 2 * SHAKE_PX + lag
        scores[lag] = float(now[begin : begin + len(inner)] @ inner)
    best = max(scores, key=lambda lag: (round(scores[lag], 3), lag == last, -abs(lag)))
    if scores[best] < max(scores[last] + BETTER, ALIKE):
        best = last
    return None if abs(best) > SHAKE_PX else best


def _shifted(frame: NDArray[np.uint8], shift: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the picture moved back; what comes in at its sides repeats them."""
    down, right = shift
    height, width = frame.shape[:2]
    rows = np.clip(np.arange(height) + down, 0, height - 1)
    columns = np.clip(np.arange(width) + right, 0, width - 1)
    return np.ascontiguousarray(frame[rows][:, columns])
