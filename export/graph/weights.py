"""Matrices on their way from the checkpoint into a data file: streamed, rounded by the recipe, stored once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from export.bundle import DataFile, Region
from export.checkpoint.tensors import TensorStore
from export.quantize import quantize, quantize_rows
from export.recipes import Format, Recipe, WeightClass
from export.rotation import block_width, spread, turn_runs

Progress = Callable[[str, int], None]  # name of a tensor, parameters of it just written

_CHUNK = 1 << 21  # parameters in work at once: 8 MiB of float32 and a few times that for the blocks


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of a checkpoint's tensor, in the order in which a product needs them.

    Attributes:
        name: What the matrix is called in the graph.
        tensor: Tensor of the checkpoint.
        rows: Ranges [start, stop) of its rows, one after the other; none means all.
    """

    name: str
    tensor: str
    rows: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class StoredMatrix:
    """A matrix in a data file, in float32 [outputs, inputs], in blocks, or by rows as int8 [inputs, outputs]."""

    name: str
    outputs: int
    inputs: int
    form: Format
    values: Region
    scales: Region | None = None
    zero_points: Region | None = None


@dataclass(slots=True)
class Weights:
    """Takes tensors out of a checkpoint and puts them into data files.

    Attributes:
        tensors: The checkpoint's.
        recipe: The formats.
        progress: Hears of every tensor written.
        used: Names of the tensors taken so far.
        applied: For every class met so far, the formats that were really used, in words.
    """

    tensors: TensorStore
    recipe: Recipe
    progress: Progress
    used: set[str] = field(default_factory=set)
    applied: dict[str, set[str]] = field(default_factory=dict)

    def precision(self) -> dict[str, str]:
        """Return, for every class of weights met so far, the formats that were really used, in words."""
        return {kind: ", ".join(sorted(forms)) for kind, forms in sorted(self.applied.items())}

    def under(self, recipe: Recipe) -> Weights:
        """Return the same tensors under another recipe; what it uses counts as used here."""
        return replace(self, recipe=recipe)

    def again(self, recipe: Recipe) -> Weights:
        """Return the same tensors for a second copy: nobody hears of it, and its formats are counted by themselves."""
        return replace(self, recipe=recipe, progress=lambda _name, _parameters: None, applied={})

    def small(self, name: str) -> NDArray[np.float32]:
        """Read a vector or another small tensor whole."""
        self.used.add(name)
        values = self.tensors.read(name)
        self.progress(name, values.size)
        return values

    def norm(self, name: str) -> NDArray[np.float32]:
        """Read the scale of an RMS norm that multiplies with 1 + w."""
        return 1 + self.small(name)

    def store(self, data: DataFile, matrix: Matrix | str, kind: WeightClass) -> StoredMatrix:
        """Stream a matrix into a data file in the recipe's format for its class."""
        if isinstance(matrix, str):
            matrix = Matrix(matrix, matrix)
        tensor = self.tensors.tensors[matrix.tensor]
        if not matrix.rows:
            matrix = replace(matrix, rows=((0, tensor.shape[0]),))
        self.used.add(matrix.tensor)
        outputs, inputs = sum(stop - start for start, stop in matrix.rows), tensor.size // tensor.shape[0]
        form = self.recipe.formats[kind].fitted(inputs)
        self.applied.setdefault(kind, set()).add(str(form))
        stored = StoredMatrix(matrix.name, outputs, inputs, form, Region(data.name, 0, 0))
        if not form.quantised:
            return replace(stored, values=data.append(rows.data for rows in self._stream(matrix)))
        if form.by_row:
            return self._store_rows(data, matrix, stored)
        scales: list[NDArray[np.float32]] = []
        zeros: list[NDArray[np.uint8]] = []

        def blocks() -> Iterator[memoryview]:
            for rows in self._stream(matrix):
                found = quantize(rows, form)
                scales.append(found.scales)
                if found.zero_points is not None:
                    zeros.append(found.zero_points)
                yield found.values.data

        return replace(
            stored,
            values=data.append(blocks()),
            scales=data.append(part.data for part in scales),
            zero_points=data.append(part.data for part in zeros) if form.zero_points else None,
        )

    def turn(self, inputs: int) -> NDArray[np.float32] | None:
        """Return what every run of inputs is multiplied with before it is rounded by rows, or None."""
        most = self.recipe.rotation
        return spread(block_width(inputs, most)) if most else None

    def _store_rows(self, data: DataFile, matrix: Matrix, stored: StoredMatrix) -> StoredMatrix:
        """Store int8 values transposed, as the products by rows want them; holds one matrix of bytes."""
        turn = self.turn(stored.inputs)
        found = [
            quantize_rows(rows if turn is None else turn_runs(rows, turn)) for rows in self._stream(matrix)
        ]
        values = np.ascontiguousarray(np.concatenate([part.values for part in found]).T)
        return replace(
            stored,
            values=data.append([values.data]),
            scales=data.append([np.concatenate([part.scales for part in found]).data]),
        )

    def _stream(self, matrix: Matrix) -> Iterator[NDArray[np.float32]]:
        tensor = self.tensors.tensors[matrix.tensor]
        columns = tensor.size // tensor.shape[0]
        step = max(1, _CHUNK // columns)
        for start, stop in matrix.rows:
            for row in range(start, stop, step):
                values = tensor.rows(row, min(row + step, stop))
                yield values
                self.progress(matrix.tensor, values.size)
