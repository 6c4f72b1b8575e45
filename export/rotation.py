"""Orthogonal maps that spread a few large channels over their neighbours, so that one scale a token is enough for eight bits.

A product does not change when its input is turned and its weights are turned alike: x W' = (x Q)(W Q)'. The weights are
turned at export, the input as the product runs, in short runs of channels. Sources: QuaRot (arXiv 2404.00456), SpinQuant
(2405.16406). They fold one turn of the whole residual stream into the weights around it, which costs nothing at run time; but
then the norms' scales come after the rounding, and a channel that a norm was trained to quieten drowns the others.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_SEED: Final = 20_261_122  # of the signs; any will do, but every bundle should have the same


def spread(width: int) -> NDArray[np.float32]:
    """Return signs times the normalised Hadamard matrix (Sylvester's): orthogonal, all entries of one size.

    The signs keep a run that a plain Hadamard matrix would gather into one channel, a constant one for example, from being
    gathered.

    Args:
        width: A power of two.

    Returns:
        Shape (width, width).
    """
    turn = np.ones((1, 1))
    while len(turn) < width:
        turn = np.block([[turn, turn], [turn, -turn]])
    signs = np.random.default_rng(_SEED).integers(0, 2, width) * 2.0 - 1.0
    return np.asarray(signs[:, None] * turn / np.sqrt(width), np.float32)


def block_width(width: int, most: int) -> int:
    """Return the largest power of two, up to ``most`` (one, too), that divides a width."""
    return min(width & -width, most)


def turn_runs(rows: NDArray[np.float32], turn: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiply every run of ``len(turn)`` columns of rows [n, K] with a matrix."""
    return np.asarray(rows.reshape(-1, len(turn)) @ turn, np.float32).reshape(rows.shape)
