"""Weights to blocks, in the layout of onnxruntime's MatMulNBits and GatherBlockQuantized.

A row (one output) of K inputs is padded with zeros to whole blocks. Each block has a scale and, where the recipe says so, a
zero point; value = (q - zero point) * scale, the zero point being 2^(bits - 1) where none is stored. Four-bit numbers
lie two in a byte, the first in the lower half. Operators: onnxruntime 1.31, docs/ContribOperators.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.recipes import Format


@dataclass(frozen=True, slots=True)
class Blocks:
    """Rows in blocks.

    Attributes:
        values: uint8, shape (rows, blocks, block * bits / 8).
        scales: float32, shape (rows, blocks).
        zero_points: uint8, shape (rows, ceil(blocks * bits / 8)), or None for symmetric blocks.
    """

    values: NDArray[np.uint8]
    scales: NDArray[np.float32]
    zero_points: NDArray[np.uint8] | None


def block_count(columns: int, block: int) -> int:
    """Return how many blocks a row of so many inputs takes."""
    return -(-columns // block)


def quantize(rows: NDArray[np.float32], form: Format) -> Blocks:
    """Round to the nearest step of each block's own scale.

    With zero points a block's steps span its smallest to its largest value, 0 included; without, they are symmetric
    around 0. Either way no value moves by more than half a step.

    Args:
        rows: float32, shape (n, K), finite.
        form: 4 or 8 bits.
    """
    count, columns = rows.shape
    blocks = block_count(columns, form.block)
    if blocks * form.block != columns:
        rows = np.pad(rows, ((0, 0), (0, blocks * form.block - columns)))
    split = rows.reshape(count, blocks, form.block)
    steps = (1 << form.bits) - 1
    if form.zero_points:
        low = np.minimum(split.min(axis=2), 0)
        high = np.maximum(split.max(axis=2), 0)
        scales = _nonzero((high - low) / np.float32(steps))
        zeros = np.clip(np.rint(-low / scales), 0, steps)
    else:
        largest = np.maximum(split.max(axis=2), -split.min(axis=2))
        scales = _nonzero(largest / np.float32(steps // 2))
        zeros = np.full_like(scales, 1 << (form.bits - 1))
    steps_off = split / scales[:, :, None]
    np.rint(steps_off, out=steps_off)
    steps_off += zeros[:, :, None]
    np.clip(steps_off, 0, steps, out=steps_off)
    return Blocks(
        values=_pack(steps_off.astype(np.uint8), form.bits),
        scales=scales,
        zero_points=_pack(zeros.astype(np.uint8), form.bits) if form.zero_points else None,
    )


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows with one scale each: int8 values, shape (rows, K), in -127..127, and scales float32, shape (rows,)."""

    values: NDArray[np.int8]
    scales: NDArray[np.float32]


def quantize_rows(rows: NDArray[np.float32]) -> Rows:
    """Round to the nearest of 255 steps around 0, per row: float32, shape (n, K), finite."""
    scales = _nonzero(np.abs(rows).max(axis=1) / np.float32(127))
    return Rows(np.clip(np.rint(rows / scales[:, None]), -127, 127).astype(np.int8), scales)


def dequantize(blocks: Blocks, columns: int, form: Format) -> NDArray[np.float32]:
    """Return what the operators make of the blocks: float32, shape (n, K)."""
    count, per_row = blocks.scales.shape
    steps = np.asarray(_unpack(blocks.values, form.bits), np.float32).reshape(count, per_row, form.block)
    if blocks.zero_points is None:
        steps -= 1 << (form.bits - 1)
    else:
        steps -= np.asarray(_unpack(blocks.zero_points, form.bits), np.float32)[:, :per_row, None]
    steps *= blocks.scales[:, :, None]
    return steps.reshape(count, per_row * form.block)[:, :columns]


def _nonzero(scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give blocks of zeros (or of numbers too small to divide by) a scale that makes zeros of them."""
    return np.where(scales < np.finfo(np.float32).tiny, np.float32(1), scales)


def _pack(numbers: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Pack along the last dimension; a row that ends in half a byte is filled with zeros."""
    if bits == 8:
        return numbers
    if numbers.shape[-1] % 2:
        numbers = np.concatenate([numbers, np.zeros((*numbers.shape[:-1], 1), np.uint8)], axis=-1)
    packed: NDArray[np.uint8] = numbers[..., 0::2] | (numbers[..., 1::2] << np.uint8(4))
    return packed


def _unpack(packed: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    if bits == 8:
        return packed
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)
