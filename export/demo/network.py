"""The demo model: its dimensions, a start from which it can learn, and the checkpoint directory that it is saved in."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from edge.errors import CheckpointError
from export.demo import checkpoint, vocabulary
from export.demo.checkpoint import Preset, Vision
from export.demo.labels import BOX_STEP
from export.reference.libraries import import_libraries

VOCABULARY: Final = 1536
"""Byte-level tokens at most: the world's own words and JSON, and its numbers."""
ROPE_THETA: Final = 10_000.0
"""The releases turn 32 frequencies with 1e7; with 8 frequencies most of them would stand still at that."""
VIDEO_PIXELS: Final = 480 * 96 * 128
"""A minute at 8 frames a second is shown at 128 x 96, 12 tokens a pair; a shorter clip of a camera at more."""
IMAGE_PIXELS: Final = 68 * 32 * 32
"""Of a key frame, which shows what the clip's pictures are too small for: 288 x 224 of a camera's picture of 4 : 3."""
CARD: Final = """\
---
license: apache-2.0
---
Qwen3.5's architecture at a few million parameters, trained from nothing on edgeclip's drawn world
(`python -m export.demo.train`). It knows pictograms on textures and nothing else: what it says of real footage means
nothing.
"""
_EMBEDDING: Final = 0.1  # standard deviation of embeddings; tied, so of the first logits' weights too
_ROWS: Final = 32  # the embedding's rows are a multiple of it
_NUMBERS: Final = ((re.compile(r"\d+\.\d"), 1.0, 8), (re.compile(r"\d{2,}"), 4 * BOX_STEP, 6))
"""Numbers that are tokens: seconds and sides of boxes, the shortest period of their waves, and how many waves."""

_DEEP: Final = Preset(
    hidden=128,
    ffn=384,
    layers=8,
    heads=4,
    kv_heads=2,
    head_dim=64,
    mrope_section=(3, 3, 2),
    key_heads=4,
    value_heads=4,
    linear_dim=32,
    tied=True,
    rows=0,
    context=32_768,
    vision=Vision(depth=3, hidden=128, heads=4, ffn=384, positions=64),
)

SIZES: Final = {
    "small": replace(
        _DEEP,
        hidden=160,
        ffn=448,
        layers=4,
        vision=Vision(depth=2, hidden=128, heads=4, ffn=320, positions=64),
    ),
    "deep": _DEEP,
    "wide": replace(_DEEP, hidden=192, ffn=512, linear_dim=48),
}
"""Dimensions by name; ``rows`` follows from the tokenizer."""


def write_directory(dims: Preset, directory: Path, texts: Iterable[str]) -> Preset:
    """Write a checkpoint's small files: a tokenizer trained on ``texts``, the template, and the JSON files.

    Args:
        dims: Dimensions; ``rows`` is replaced.
        directory: Where; made if need be.
        texts: The world's words.

    Returns:
        The dimensions with the rows that the tokenizer needs.
    """
    directory.mkdir(parents=True, exist_ok=True)
    content, count = vocabulary.train(texts, VOCABULARY, vocabulary.NUMBER_PATTERN)
    ids = vocabulary.write_files(directory, content, count, vocabulary.NUMBER_PATTERN)
    rows = -(-(count + len(vocabulary.ADDED_TOKENS)) // _ROWS) * _ROWS
    dims = replace(dims, rows=rows)
    checkpoint.write_settings(directory, ids, video=(4_096, VIDEO_PIXELS), image=(32 * 32, IMAGE_PIXELS))
    (directory / "README.md").write_text(CARD, encoding="utf-8")  # the converter reads the licence there
    settings = checkpoint.config(dims, ids, "float32")
    settings["text_config"]["rope_parameters"]["rope_theta"] = ROPE_THETA
    (directory / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return dims


def build(directory: Path, seed: int) -> Any:
    """Make transformers' own model of a directory's config.json, ready to learn.

    Transformers draws what the releases do not start from: rates of forgetting up to 16 with a step of softplus(1), so
    most heads of a DeltaNet layer forget within a token and nothing ever comes back from there. Steps are drawn
    log-uniformly from 0.001..0.1 here, as Mamba does it (Gu and Dao 2023, section 3.6), and rates from 1..8.

    Args:
        directory: As `write_directory` left it.
        seed: Of all values.

    Returns:
        A ``Qwen3_5ForConditionalGeneration`` in float32.
    """
    libraries = import_libraries()
    torch, transformers = libraries.torch, libraries.transformers
    torch.manual_seed(seed)
    settings = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    model = transformers.Qwen3_5ForConditionalGeneration(transformers.Qwen3_5Config(**settings)).float()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "conv1d" not in name:
                _draw(weight, name, model.config)
        _draw_numbers(model.get_input_embeddings().weight, directory)
        for layer in model.model.language_model.layers:
            if hasattr(layer, "linear_attn"):
                heads = layer.linear_attn.dt_bias.shape[0]
                step = torch.exp(torch.empty(heads).uniform_(math.log(0.001), math.log(0.1)))
                layer.linear_attn.dt_bias.copy_(step + torch.log(-torch.expm1(-step)))  # softplus, undone
                layer.linear_attn.A_log.copy_(torch.empty(heads).uniform_(1.0, 8.0).log())
    return model


def _draw(weight: Any, name: str, config: Any) -> None:
    """Draw a matrix: transformers' 0.02 for every one of them leaves a model of a hundred channels nearly silent."""
    if "embed" in name and "patch_embed" not in name:
        weight.normal_(std=_EMBEDDING)
        return
    gain = 1.0
    if name.endswith(
        ("o_proj.weight", "out_proj.weight", "down_proj.weight", "attn.proj.weight", "fc2.weight")
    ):
        vision = "visual" in name
        depth = config.vision_config.depth if vision else config.text_config.num_hidden_layers
        gain = (2 * depth) ** -0.5  # of a branch that is added to the rest
    if "merger" in name:
        gain = 1.0
    weight.normal_(std=gain * weight[0].numel() ** -0.5)


def _draw_numbers(weight: Any, directory: Path) -> None:
    """Draw the rows of numbers as waves of ever longer periods, each twice the one before (Vaswani et al. 2017, 3.5).

    So numbers that are near are alike: what is torn between two tells one that lies between them, and there is room beside
    the time of a pair for those of the events that it belongs to.
    """
    import torch

    content = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    for pattern, shortest, waves in _NUMBERS:
        ids = {token: row for token, row in content["model"]["vocab"].items() if pattern.fullmatch(token)}
        values = torch.tensor([float(token) for token in ids])
        turns = 2 * math.pi * values[:, None] / (shortest * 2.0 ** torch.arange(waves))
        plane = torch.linalg.qr(torch.randn(weight.shape[1], 2 * waves))[0]
        points = torch.cat([turns.cos(), turns.sin()], dim=1) * waves**-0.5
        weight[list(ids.values())] = points @ plane.T * (_EMBEDDING * weight.shape[1] ** 0.5)


def save(weights: Mapping[str, Any], directory: Path) -> None:
    """Write the weights beside a directory's small files; what is there already is replaced at once.

    The head is tied, so it is left out, as in the releases.
    """
    from safetensors.torch import save_file

    tensors = {
        name: value.detach().to("cpu").contiguous()
        for name, value in weights.items()
        if name != "lm_head.weight"
    }
    aside = directory / "model.safetensors.part"
    save_file(tensors, aside, metadata={"format": "pt"})
    aside.replace(directory / "model.safetensors")


def load(model: Any, directory: Path) -> None:
    """Read a directory's weights back into a model of its dimensions."""
    from safetensors.torch import load_file

    missing, unknown = model.load_state_dict(load_file(directory / "model.safetensors"), strict=False)
    if unknown or set(missing) - {"lm_head.weight"}:
        raise CheckpointError(
            f"{directory} holds other weights than its config.json says",
            evidence=[f"missing: {missing[:3]}", f"unknown: {unknown[:3]}"],
            next_step="Give a checkpoint of this trainer.",
        )
