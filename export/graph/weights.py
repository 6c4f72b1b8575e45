"""Matrices on their way from the checkpoint into a graph: streamed, quantised by the recipe, stored once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from export.bundle import DataFile, Region
from export.checkpoint.tensors import TensorStore
from export.graph.writer import MICROSOFT, GraphWriter
from export.quantize import block_count, quantize
from export.recipes import Format, Recipe, WeightClass

Progress = Callable[[str, int], None]  # name of a tensor, parameters of it just written

_CHUNK: Final = 1 << 21  # parameters in work at once: 8 MiB of float32 and a few times that for the blocks
_ACCURACY: Final = 4  # activations quantised to int8 per block: what onnxruntime is fast at


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of a checkpoint's tensor, in the order in which a product needs them.

    Attributes:
        name: What the matrix is called in the graph.
        tensor: Tensor of the checkpoint.
        rows: Ranges [start, stop) of its rows, one after the other.
    """

    name: str
    tensor: str
    rows: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class StoredMatrix:
    """A matrix in a data file: [outputs, inputs], in float32 or, with ``scales``, in blocks."""

    name: str
    outputs: int
    inputs: int
    form: Format
    values: Region
    scales: Region | None = None
    zero_points: Region | None = None


class Weights:
    """Takes tensors out of a checkpoint and puts them into a graph."""

    def __init__(self, store: TensorStore, recipe: Recipe, progress: Progress) -> None:
        """Args: the checkpoint's tensors, the formats, and who hears of every tensor written."""
        self._store = store
        self._recipe = recipe
        self._progress = progress
        self._applied: dict[str, set[str]] = {}
        self.used: set[str] = set()

    def precision(self) -> dict[str, str]:
        """Return, for every class of weights met so far, the formats that were really used, in words."""
        return {kind: ", ".join(sorted(forms)) for kind, forms in sorted(self._applied.items())}

    def small(self, name: str) -> NDArray[np.float32]:
        """Read a vector or another small tensor whole."""
        self.used.add(name)
        values = self._store.read(name)
        self._progress(name, values.size)
        return values

    def norm(self, name: str) -> NDArray[np.float32]:
        """Read the scale of an RMS norm that multiplies with 1 + w."""
        return 1 + self.small(name)

    def store(self, data: DataFile, matrix: Matrix | str, kind: WeightClass) -> StoredMatrix:
        """Stream a matrix into a data file in the recipe's format for its class."""
        if isinstance(matrix, str):
            matrix = Matrix(matrix, matrix, ((0, self._store.tensors[matrix].shape[0]),))
        tensor = self._store.tensors[matrix.tensor]
        self.used.add(matrix.tensor)
        outputs, inputs = sum(stop - start for start, stop in matrix.rows), tensor.size // tensor.shape[0]
        form = self._recipe.formats[kind].fitted(inputs)
        self._applied.setdefault(kind, set()).add(str(form))
        if not form.quantised:
            values = data.append(rows.data for rows in self._stream(matrix))
            return StoredMatrix(matrix.name, outputs, inputs, form, values)
        scales: list[NDArray[np.float32]] = []
        zeros: list[NDArray[np.uint8]] = []

        def blocks() -> Iterator[memoryview]:
            for rows in self._stream(matrix):
                found = quantize(rows, form)
                scales.append(found.scales)
                if found.zero_points is not None:
                    zeros.append(found.zero_points)
                yield found.values.data

        return StoredMatrix(
            matrix.name,
            outputs,
            inputs,
            form,
            values=data.append(blocks()),
            scales=data.append(part.data for part in scales),
            zero_points=data.append(part.data for part in zeros) if form.zero_points else None,
        )

    def linear(
        self,
        graph: GraphWriter,
        x: str,
        matrix: Matrix | str,
        kind: WeightClass,
        *,
        bias: str = "",
        to: str = "",
    ) -> str:
        """Add the product of x with a matrix of the checkpoint, and the tensor named ``bias``."""
        stored = self.store(graph.data, matrix, kind)
        added = graph.constant(bias, self.small(bias)) if bias else ""
        return multiply(graph, x, stored, bias=added, to=to)

    def _stream(self, matrix: Matrix) -> Iterator[NDArray[np.float32]]:
        tensor = self._store.tensors[matrix.tensor]
        columns = tensor.size // tensor.shape[0]
        step = max(1, _CHUNK // columns)
        for start, stop in matrix.rows:
            for row in range(start, stop, step):
                values = tensor.rows(row, min(row + step, stop))
                yield values
                self._progress(matrix.tensor, values.size)


def multiply(graph: GraphWriter, x: str, stored: StoredMatrix, *, bias: str = "", to: str = "") -> str:
    """Add the product x W' of x [..., inputs] with a stored matrix, and a bias."""
    if stored.scales is None:
        weight = graph.external(stored.name, "float32", (stored.outputs, stored.inputs), stored.values)
        product = graph.op("FusedMatMul", x, weight, domain=MICROSOFT, transB=1, to="" if bias else to)
        return graph.op("Add", product, bias, to=to) if bias else product
    values, scales, zeros = _block_constants(graph, stored, stored.scales, flat=False)
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
    values, scales, zeros = _block_constants(graph, stored, stored.scales, flat=True)
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


def _block_constants(
    graph: GraphWriter, stored: StoredMatrix, scales_at: Region, *, flat: bool
) -> tuple[str, str, str]:
    """Add values, scales and zero points; flat values are [outputs, bytes] instead of [outputs, blocks, bytes]."""
    form, name = stored.form, stored.name
    blocks, block_bytes = block_count(stored.inputs, form.block), form.block * form.bits // 8
    shape = (stored.outputs, blocks * block_bytes) if flat else (stored.outputs, blocks, block_bytes)
    values = graph.external(name, "uint8", shape, stored.values)
    scales = graph.external(f"{name}.scales", "float32", (stored.outputs, blocks), scales_at)
    zeros = ""
    if stored.zero_points is not None:
        width = -(-blocks * form.bits // 8)
        zeros = graph.external(f"{name}.zero_points", "uint8", (stored.outputs, width), stored.zero_points)
    return values, scales, zeros
