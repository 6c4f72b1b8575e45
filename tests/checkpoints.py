"""Qwen3.5 checkpoints for tests: the demo's factory at toy and real dimensions; `python -m tests.checkpoints` writes one."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from export.demo import checkpoint
from export.demo.checkpoint import Dtype, Preset, Tensor, Vision, config, tensors
from tests import vocabulary

__all__ = ["PRESETS", "Dtype", "Preset", "Tensor", "Vision", "config", "tensors", "write"]

_REAL_ROWS: Final = 248_320  # rows of the released embedding; ids end at 248,076

_RELEASED_0_8B: Final = Preset(
    hidden=1024,
    ffn=3584,
    layers=24,
    heads=8,
    kv_heads=2,
    head_dim=256,
    mrope_section=(11, 11, 10),
    key_heads=16,
    value_heads=16,
    linear_dim=128,
    tied=True,
    rows=_REAL_ROWS,
    context=262_144,
    vision=Vision(depth=12, hidden=768, heads=12, ffn=3072, positions=2304),
    mtp=True,
    dtype="bfloat16",
    hub_names=True,
)

PRESETS: Final = {
    "toy_tied": checkpoint.TOY,
    "toy_untied": replace(
        checkpoint.TOY,
        hidden=96,
        ffn=208,
        layers=4,
        heads=6,
        head_dim=64,
        mrope_section=(3, 3, 2),
        key_heads=2,
        linear_dim=128,  # as released: wide enough for its states to be split
        tied=False,
        rows=680,
        vision=Vision(depth=3, hidden=96, heads=3, ffn=176, positions=100),
    ),
    "dims_0_8b": _RELEASED_0_8B,
    "dims_2b": replace(
        _RELEASED_0_8B,
        hidden=2048,
        ffn=6144,
        vision=Vision(depth=24, hidden=1024, heads=16, ffn=4096, positions=2304),
        shards=2,
    ),
}


def write(
    preset: str | Preset,
    directory: Path,
    *,
    seed: int = 0,
    dtype: Dtype | None = None,
    shards: int | None = None,
    tokenizer: vocabulary.Kind | None = None,
) -> Path:
    """Write a whole checkpoint; what is None follows the preset.

    A tensor's values depend on `seed` and its name alone, so they are the same however the file is sharded.

    Returns:
        The directory, which must not hold a config.json yet.
    """
    dims = PRESETS[preset] if isinstance(preset, str) else preset
    kind = tokenizer or ("real" if dims.rows >= vocabulary.REAL_SIZE else "toy")
    if kind == "real" and dims.rows < vocabulary.REAL_SIZE:
        dims = replace(dims, rows=_REAL_ROWS)

    def write_tokenizer(where: Path) -> dict[str, int]:
        return vocabulary.write(where, kind)

    return checkpoint.write(
        dims, directory, seed=seed, dtype=dtype, shards=shards, write_tokenizer=write_tokenizer
    )


def main() -> None:
    """Write one checkpoint from the shell."""
    parser = argparse.ArgumentParser(prog="python -m tests.checkpoints", description=__doc__)
    parser.add_argument("preset", choices=sorted(PRESETS))
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=sorted(checkpoint.BYTES))
    parser.add_argument("--shards", type=int)
    parser.add_argument("--tokenizer", choices=("toy", "real"))
    args = parser.parse_args()
    path = write(
        args.preset, args.out, seed=args.seed, dtype=args.dtype, shards=args.shards, tokenizer=args.tokenizer
    )
    size = sum(file.stat().st_size for file in path.iterdir())
    sys.stdout.write(f"{path}: {size / 2**20:.1f} MiB\n")


if __name__ == "__main__":
    main()
