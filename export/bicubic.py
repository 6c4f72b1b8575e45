"""torch's antialiased bicubic filter for uint8 pictures, bit for bit, without torch.

The image processor of transformers scales with it, through torchvision. The device scales with Pillow's, which differs by
a level in every fifth value. A golden vector asks whether the model is right, so it is replayed with the pixels that it
was made from. Source: PyTorch 2.13, ``aten/src/ATen/native/cpu/UpSampleKernel.cpp``,
``_compute_indices_int16_weights_aa``.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.records import Size

_A: Final = -0.5  # of the cubic, where it is antialiased
_SUPPORT: Final = 2.0
_MOST_PRECISE: Final = 22  # bits behind the point
_INT16: Final = 1 << 15


def scale_as_torch(rgb: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Scale a picture of shape (H, W, 3), rows first within each line, then lines; weights are 16-bit integers."""
    across = _resample(rgb.swapaxes(0, 1), size.width).swapaxes(0, 1)
    return np.ascontiguousarray(_resample(across, size.height))


def _resample(picture: NDArray[np.uint8], length: int) -> NDArray[np.uint8]:
    """Scale the first axis."""
    if len(picture) == length:
        return picture
    weights, precision = _fixed_weights(len(picture), length)
    lines = picture.reshape(len(picture), -1).astype(np.float64)  # exact: all sums stay far below 2**53
    summed = np.floor((weights @ lines + (1 << (precision - 1))) / (1 << precision))
    return np.clip(summed, 0, 255).astype(np.uint8).reshape(length, *picture.shape[1:])


def _fixed_weights(source: int, length: int) -> tuple[NDArray[np.float64], int]:
    """Return the weight of every source line for every new one, shape (length, source), and the bits behind the point."""
    step = source / length
    wide = max(step, 1.0)
    table = np.zeros((length, source))
    for i in range(length):
        centre = step * (i + 0.5)
        first = max(int(centre - _SUPPORT * wide + 0.5), 0)
        last = min(int(centre + _SUPPORT * wide + 0.5), source)
        taps = _cubic((np.arange(first, last, dtype=np.float64) - centre + 0.5) / wide)
        table[i, first:last] = taps / taps.sum()
    precision = 0
    while precision < _MOST_PRECISE and int(0.5 + table.max() * (1 << (precision + 1))) < _INT16:
        precision += 1
    return np.trunc(table * (1 << precision) + np.copysign(0.5, table)), precision


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution kernel."""
    x = np.abs(x)
    near = ((_A + 2) * x - (_A + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * _A - 4 * _A
    return np.where(x < 1, near, np.where(x < _SUPPORT, far, 0.0))
