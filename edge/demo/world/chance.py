"""Chance that is the same on every machine: PCG64's own doubles, and only arithmetic that IEEE 754 fixes.

NumPy promises the bit streams of its generators, not those of its distributions, so everything is made of `random`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class Chance:
    """Draws for one purpose.

    Args:
        key: Whole numbers >= 0 that name the purpose; equal keys give equal draws.
    """

    def __init__(self, *key: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))

    def unit(self) -> float:
        """Return a number in [0, 1)."""
        return float(self._generator.random())

    def between(self, low: float, high: float) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * self.unit()

    def below(self, limit: int) -> int:
        """Return a whole number in [0, limit)."""
        return int(self.unit() * limit)

    def choice(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        return options[self.below(len(options))]

    def yes(self, share: float) -> bool:
        """Return whether something happens that happens in this share of cases."""
        return self.unit() < share

    def array(self, *shape: int) -> NDArray[np.float64]:
        """Return numbers in [0, 1) of the given shape."""
        return self._generator.random(shape)
