"""Tensors streamed from safetensors files: a range of rows at a time, as float32, so memory does not grow with the model.

The files are read with plain reads rather than mapped: mapped pages would count as this process's memory.
Format: https://huggingface.co/docs/safetensors (8 bytes of length, a JSON header, the data).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge.errors import CheckpointError
from export.checkpoint.fields import read_json

INDEX: Final = "model.safetensors.index.json"
SINGLE: Final = "model.safetensors"
_AGAIN: Final = "Copy or download the file again."
_ITEM_BYTES: Final = {"F32": 4, "F16": 2, "BF16": 2}
_HEADER_LIMIT: Final = 100_000_000  # bytes; the format's own limit


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies: ``offset`` counts bytes from the beginning of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset: int

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Read rows [start, stop) of the first dimension.

        Returns:
            float32, shape (stop - start, the other dimensions flattened).

        Raises:
            CheckpointError: The file ends early, or a value is not finite.
        """
        columns = self.size // self.shape[0]
        item = _ITEM_BYTES[self.dtype]
        wanted = (stop - start) * columns
        try:
            with self.file.open("rb") as source:
                source.seek(self.offset + start * columns * item)
                data = source.read(wanted * item)
        except OSError as error:
            raise CheckpointError(f"{self.file} cannot be read", evidence=[str(error)]) from error
        if len(data) != wanted * item:
            raise CheckpointError(
                f"{self.file} is truncated", evidence=[f"it ends within {self.name}"], next_step=_AGAIN
            )
        values = _as_float32(data, self.dtype)
        if not np.isfinite(values).all():
            raise CheckpointError(
                f"{self.name} holds values that are not finite", evidence=[str(self.file)], next_step=_AGAIN
            )
        return values.reshape(stop - start, columns)


@dataclass(frozen=True, slots=True)
class TensorStore:
    """All tensors of a checkpoint by name."""

    tensors: Mapping[str, StoredTensor]

    def read(self, name: str) -> NDArray[np.float32]:
        """Read a small tensor whole, in its own shape."""
        tensor = self.tensors[name]
        return tensor.rows(0, tensor.shape[0]).reshape(tensor.shape)

    def check(self, expected: Mapping[str, tuple[int, ...]], ignored: tuple[str, ...]) -> tuple[str, ...]:
        """Compare with what the architecture needs, before any work is done.

        Returns:
            Names that nothing needs and nothing explains, sorted.

        Raises:
            CheckpointError: A tensor is missing or of another shape or type than config.json implies.
        """
        missing = sorted(expected.keys() - self.tensors.keys())
        if missing:
            raise CheckpointError(
                f"the checkpoint lacks {len(missing)} of {len(expected)} tensors",
                evidence=[f"missing: {name}" for name in missing[:3]],
                next_step="Check that config.json and the safetensors files are of one release, and all there.",
            )
        for name, shape in expected.items():
            found = self.tensors[name]
            if found.shape != shape:
                raise CheckpointError(
                    f"tensor {name} does not have the shape that config.json implies",
                    evidence=[
                        f"{found.file.name}: {list(found.shape)}",
                        f"config.json implies: {list(shape)}",
                    ],
                    next_step="Check that config.json and the safetensors files are of one release.",
                )
            if found.dtype not in _ITEM_BYTES:
                raise CheckpointError(
                    f"tensor {name} is stored as {found.dtype}",
                    evidence=[str(found.file)],
                    next_step="Convert from the release in bfloat16, float16 or float32, not a quantised one.",
                )
        return tuple(sorted(n for n in self.tensors.keys() - expected.keys() if not n.startswith(ignored)))


def open_tensors(directory: Path) -> TensorStore:
    """Read the headers of a checkpoint's safetensors files.

    Raises:
        CheckpointError: There is none, one is damaged, or the index does not agree with the files.
    """
    if (directory / INDEX).is_file():
        return TensorStore(_indexed(directory))
    if (directory / SINGLE).is_file():
        return TensorStore({tensor.name: tensor for tensor in _header(directory / SINGLE)})
    others = sorted(path.name for path in directory.glob("*") if path.suffix in {".bin", ".pt", ".gguf"})
    raise CheckpointError(
        f"checkpoint {directory} has neither {SINGLE} nor {INDEX}",
        evidence=[f"found {', '.join(others[:3])}"] if others else (),
        next_step="Weights are read from safetensors only: download the original release.",
    )


def _indexed(directory: Path) -> dict[str, StoredTensor]:
    where = read_json(directory / INDEX).get("weight_map")
    if not isinstance(where, dict) or not all(
        isinstance(name, str) and Path(name).name == name for name in where.values()
    ):
        raise CheckpointError(
            f"{directory / INDEX} has no weight_map of plain file names",
            next_step="Copy or download it again.",
        )
    found: dict[str, StoredTensor] = {}
    for name in sorted(set(where.values())):
        path = directory / name
        if not path.is_file():
            raise CheckpointError(
                f"checkpoint {directory} lacks a file",
                evidence=[f"{INDEX} names {name}"],
                next_step="Download the missing file.",
            )
        found |= {tensor.name: tensor for tensor in _header(path) if where.get(tensor.name) == name}
    lost = sorted(where.keys() - found.keys())
    if lost:
        raise CheckpointError(
            f"{directory / INDEX} and the files beside it disagree",
            evidence=[f"{lost[0]} is not in {where[lost[0]]}"],
            next_step="Download the files again, all from one revision.",
        )
    return found


def _header(path: Path) -> Iterator[StoredTensor]:
    """Yield the tensors of one file after checking that it is whole."""
    try:
        size = path.stat().st_size
        with path.open("rb") as source:
            length = int.from_bytes(source.read(8), "little")
            if size < 8 or length > min(size - 8, _HEADER_LIMIT):
                raise _damaged(path, f"{size} bytes, header of {length} bytes")
            header = json.loads(source.read(length))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read", evidence=[str(error)]) from error
    except ValueError as error:
        raise _damaged(path, f"its header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a JSON object")
    header.pop("__metadata__", None)
    begin, end = 8 + length, 8 + length
    tensors = [_entry(path, name, entry, begin) for name, entry in header.items()]
    for tensor, last in tensors:
        end = max(end, last)
        if last > size:
            raise _damaged(path, f"{tensor.name} ends at byte {last}, the file at {size}", truncated=True)
    if end != size:
        raise _damaged(path, f"the last tensor ends at byte {end}, the file at {size}")
    yield from (tensor for tensor, _ in tensors)


def _entry(path: Path, name: str, entry: Any, begin: int) -> tuple[StoredTensor, int]:
    try:
        dtype, shape, (first, last) = str(entry["dtype"]), tuple(entry["shape"]), entry["data_offsets"]
        whole = all(isinstance(number, int) and number >= 0 for number in (*shape, first, last))
        item = _ITEM_BYTES.get(dtype)
        if not whole or last < first or (item and last - first != math.prod(shape) * item):
            raise _damaged(path, f"the entry of {name} contradicts itself: {json.dumps(entry)[:200]}")
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"the entry of {name} is incomplete") from error
    return StoredTensor(name, dtype, shape, path, begin + first), begin + last


def _damaged(path: Path, evidence: str, *, truncated: bool = False) -> CheckpointError:
    kind = "truncated" if truncated else "not a whole safetensors file"
    return CheckpointError(f"{path} is {kind}", evidence=[evidence], next_step=_AGAIN)


def _as_float32(data: bytes, dtype: str) -> NDArray[np.float32]:
    if dtype == "BF16":  # the upper half of a float32
        wide = np.frombuffer(data, "<u2").astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    return np.frombuffer(data, "<f4" if dtype == "F32" else "<f2").astype(np.float32, copy=False)
