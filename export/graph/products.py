"""Products of a graph with stored matrices, whatever their format."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from export.graph.weights import Matrix, StoredMatrix, Weights
from export.graph.writer import MICROSOFT, GraphWriter
from export.quantize import block_count
from export.recipes import WeightClass

_ACCURACY: Final = 4  # activations quantised to int8 per block: what onnxruntime is fast at
_LEVELS: Final = 127  # of either sign
_ZERO: Final = (
    128  # activations are unsigned: onnxruntime's kernel for signed ones is forty times slower on x86
)
_TINY: Final = 1e-30  # a token of zeros has a scale, too


@dataclass(frozen=True, slots=True)
class Scaled:
    """A tensor [..., T, n] that still has to be multiplied with a number per token, [..., T, 1]; "" means 1."""

    values: str
    scale: str = ""


@dataclass(frozen=True, slots=True)
class Products:
    """Adds products to one graph; an input that several of them share is rounded once."""

    graph: GraphWriter
    weights: Weights
    _rounded: dict[str, Scaled] = field(default_factory=dict)

    def linear(self, x: str, matrix: Matrix | str, kind: WeightClass, *, bias: str = "", to: str = "") -> str:
        """Add the product of x [..., inputs] with a matrix of the checkpoint, and the tensor named ``bias``."""
        graph, stored = self.graph, self.weights.store(self.graph.data, matrix, kind)
        added = graph.constant(bias, self.weights.small(bias)) if bias else ""
        if not stored.form.by_row:
            return multiply(graph, x, stored, bias=added, to=to)
        product = self.by_row(x, stored)
        scaled = graph.op("Mul", product.values, product.scale, to="" if added else to)
        return graph.op("Add", scaled, added, to=to) if added else scaled

    def unscaled(self, x: Scaled, matrix: Matrix | str, kind: WeightClass) -> Scaled:
        """Add a product whose scales per token are left to the caller, because it can put them off."""
        stored = self.weights.store(self.graph.data, matrix, kind)
        if not stored.form.by_row:
            return Scaled(multiply(self.graph, x.values, stored), x.scale)
        product = self.by_row(x.values, stored)
        if not x.scale:
            return product
        return Scaled(product.values, self.graph.op("Mul", product.scale, x.scale))

    def add(self, x: str, product: Scaled) -> str:
        """Add x and a product."""
        if not product.scale:
            return self.graph.op("Add", x, product.values)
        return self.graph.op("GatedAdd", x, product.values, product.scale, domain=MICROSOFT)

    def by_row(self, x: str, stored: StoredMatrix) -> Scaled:
        """Add an int8 product; the scales of the outputs are in it, those of the tokens are not."""
        if stored.scales is None:
            raise ValueError("a matrix by rows has scales")
        graph, rounded = self.graph, self._round(x, stored.inputs)
        product = graph.op(
            "MatMulIntegerToFloat",
            rounded.values,
            graph.external(stored.name, "int8", (stored.inputs, stored.outputs), stored.values),
            graph.constant("one", np.ones(1, np.float32)),
            graph.external(f"{stored.name}.scales", "float32", (stored.outputs,), stored.scales),
            graph.constant("zero", np.array([_ZERO], np.uint8)),
            domain=MICROSOFT,
        )
        return Scaled(product, rounded.scale)

    def _round(self, x: str, width: int) -> Scaled:
        """Turn x [1, T, width] and round it to 8 bits around 128, with one scale a token."""
        found = self._rounded.get(x)
        if found is not None:
            return found
        graph, name, turn = self.graph, x, self.weights.turn(width)
        if turn is not None:
            runs = graph.op("Reshape", x, graph.integers(0, -1, len(turn)))
            turned = graph.op("MatMul", runs, graph.constant(f"turn.{len(turn)}", turn))
            x = graph.op("Reshape", turned, graph.integers(0, -1, width))
        largest = graph.op("ReduceMax", graph.op("Abs", x), graph.integers(-1), keepdims=1)
        scale = graph.op("Mul", largest, graph.constant("step", np.array([1 / _LEVELS], np.float32)))
        scale = graph.op("Max", scale, graph.constant("tiny", np.array([_TINY], np.float32)))
        flat = graph.op("Reshape", scale, graph.integers(-1))
        zeros = graph.op(
            "Expand", graph.constant("zero", np.array([_ZERO], np.uint8)), graph.op("Shape", flat)
        )
        values = graph.op("QuantizeLinear", x, flat, zeros, axis=1)
        return self._rounded.setdefault(name, Scaled(values, scale))


def multiply(graph: GraphWriter, x: str, stored: StoredMatrix, *, bias: str = "", to: str = "") -> str:
    """Add the product x W' of x [..., inputs] with a matrix in float32 or in blocks, and a bias."""
    if stored.scales is None:
        weight = graph.external(stored.name, "float32", (stored.outputs, stored.inputs), stored.values)
        product = graph.op("FusedMatMul", x, weight, domain=MICROSOFT, transB=1, to="" if bias else to)
        return graph.op("Add", product, bias, to=to) if bias else product
    values, scales, zeros = _block_constants(graph, stored, flat=False)
    inputs = [x, values, scales, zeros, "", bias]
    while not inputs[-1]:
        inputs.pop()
    return graph.op(
        "MatMulNBits",
        *inputs,
        domain=MICROSOFT,
        K=stored.inputs,
        N=stored.outputs,
        bits=stored.form.bits,
        block_size=stored.form.block,
        accuracy_level=_ACCURACY,
        to=to,
    )


def look_up(graph: GraphWriter, ids: str, stored: StoredMatrix, *, to: str) -> str:
    """Add the rows of a stored matrix that ``ids`` name, in float32; the bytes may be another graph's, too."""
    if stored.scales is None:
        table = graph.external(stored.name, "float32", (stored.outputs, stored.inputs), stored.values)
        return graph.op("Gather", table, ids, axis=0, to=to)
    values, scales, zeros = _block_constants(graph, stored, flat=True)
    padded = block_count(stored.inputs, stored.form.block) * stored.form.block != stored.inputs
    rows = graph.op(
        "GatherBlockQuantized",
        values,
        ids,
        scales,
        *([zeros] if zeros else []),
        domain=MICROSOFT,
        bits=stored.form.bits,
        block_size=stored.form.block,
        gather_axis=0,
        quantize_axis=1,
        to="" if padded else to,
    )
    if not padded:
        return rows
    return graph.op(
        "Slice", rows, graph.integers(0), graph.integers(stored.inputs), graph.integers(-1), to=to
    )


def _block_constants(graph: GraphWriter, stored: StoredMatrix, *, flat: bool) -> tuple[str, str, str]:
    """Add values, scales and zero points; flat values are [outputs, bytes] instead of [outputs, blocks, bytes]."""
    if stored.scales is None:
        raise ValueError("a matrix in blocks has scales")
    form, name = stored.form, stored.name
    blocks, block_bytes = block_count(stored.inputs, form.block), form.block * form.bits // 8
    shape = (stored.outputs, blocks * block_bytes) if flat else (stored.outputs, blocks, block_bytes)
    values = graph.external(name, "uint8", shape, stored.values)
    scales = graph.external(f"{name}.scales", "float32", (stored.outputs, blocks), stored.scales)
    zeros = ""
    if stored.zero_points is not None:
        width = -(-blocks * form.bits // 8)
        zeros = graph.external(f"{name}.zero_points", "uint8", (stored.outputs, width), stored.zero_points)
    return values, scales, zeros
