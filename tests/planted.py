"""Checkpoints with outlier channels, such as real models have and random weights have not.

Three channels of a kind are made ``factor`` times as large:

- ``residual``: of the residual stream, from the embedding on.
- ``quieted``: the same, and every norm is trained to undo it: the mathematics behind the norms stays what it was.
- ``inner``: of what the closing products of MLP and attention read, which undo it in their weights.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from export.checkpoint.names import EMBEDDING, TEXT
from export.demo.checkpoint import TOY, Preset, Vision
from tests import checkpoints

Kind = Literal["residual", "quieted", "inner"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
CHANNELS: Final = 3
PRESET: Final = replace(
    TOY,
    hidden=256,
    ffn=768,
    head_dim=64,
    mrope_section=(3, 3, 2),
    linear_dim=64,
    rows=680,
    vision=Vision(depth=1, hidden=64, heads=1, ffn=128, positions=100),
)
"""Large enough for blocks of 128 and for turns of 64."""

Tensors = dict[str, NDArray[np.float32]]


def write(directory: Path, kind: Kind | None, factor: float, preset: Preset = PRESET) -> Path:
    """Write a checkpoint in float32 and plant channels in it; None plants nothing."""
    from safetensors.numpy import load_file, save_file

    path = checkpoints.write(preset, directory, dtype="float32")
    (file,) = path.glob("*.safetensors")
    tensors = load_file(file)
    if kind == "inner":
        _inner(tensors, factor, preset)
    elif kind is not None:
        _residual(tensors, factor, preset, quieted=kind == "quieted")
    save_file(tensors, file, metadata={"format": "pt"})
    return path


def _channels(width: int) -> NDArray[np.int64]:
    return np.random.default_rng(7).permutation(width)[:CHANNELS]


def _residual(tensors: Tensors, factor: float, preset: Preset, *, quieted: bool) -> None:
    where = _channels(preset.hidden)
    tensors[EMBEDDING][:, where] *= factor
    if quieted:
        norms = [name for name in tensors if name.endswith("layernorm.weight")] + [f"{TEXT}.norm.weight"]
        for name in norms:
            tensors[name][where] = (1 + tensors[name][where]) / factor - 1


def _inner(tensors: Tensors, factor: float, preset: Preset) -> None:
    group, size = preset.heads // preset.kv_heads, preset.head_dim
    for layer in range(preset.layers):
        at = f"{TEXT}.layers.{layer}"
        where = _channels(preset.ffn)
        tensors[f"{at}.mlp.up_proj.weight"][where] *= factor
        tensors[f"{at}.mlp.down_proj.weight"][:, where] /= factor
        if f"{at}.self_attn.v_proj.weight" in tensors:
            values = _channels(preset.kv_heads * size)
            tensors[f"{at}.self_attn.v_proj.weight"][values] *= factor
            head, place = values // size, values % size
            for query in range(group):  # every query head of the group reads the same values
                read = (head * group + query) * size + place
                tensors[f"{at}.self_attn.o_proj.weight"][:, read] /= factor
