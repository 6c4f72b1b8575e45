"""What a checkpoint's small JSON files say: pixel limits and normalisation, token ids, sampling, licence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.errors import CheckpointError
from edge.model.manifest import Generation, Pixels, Tokens
from export.checkpoint.dims import Dims
from export.checkpoint.fields import Fields, read_json

# Source: the model card of Qwen3.5, non-thinking mode, vision tasks.
CARD: Final = Generation(
    temperature=0.7, top_p=0.8, top_k=20, min_p=0.0, presence_penalty=1.5, repetition_penalty=1.0
)
STOPS: Final = ("<|im_end|>", "<|endoftext|>")
_FRONT_MATTER: Final = re.compile(r"\A---\r?\n(.*?)^---\s*$", re.DOTALL | re.MULTILINE)
_LICENSE: Final = re.compile(r"^license:\s*[\"']?([A-Za-z0-9._+-]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Processor:
    """Pixel limits, and how a value 0..255 is normalised: (value * scale - mean) / std per channel."""

    image: Pixels
    video: Pixels
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


def read_processor(directory: Path, dims: Dims) -> Processor:
    """Read preprocessor_config.json (stills) and video_preprocessor_config.json.

    Raises:
        CheckpointError: One is missing, contradicts config.json, or the two normalise differently.
    """
    image, video = (
        _one(Fields(read_json(directory / name), f"{name}: "), dims)
        for name in ("preprocessor_config.json", "video_preprocessor_config.json")
    )
    if image[1:] != video[1:]:
        raise CheckpointError(
            "images and videos are normalised differently, which one vision graph cannot do",
            evidence=[
                f"preprocessor_config.json: {image[1:]}",
                f"video_preprocessor_config.json: {video[1:]}",
            ],
            next_step="Compare them with the files of the original release.",
        )
    return Processor(image[0], video[0], *video[1:])


def _one(fields: Fields, dims: Dims) -> tuple[Pixels, float, tuple[float, ...], tuple[float, ...]]:
    vision = dims.vision
    for key, value in (
        ("patch_size", vision.patch),
        ("temporal_patch_size", vision.temporal_patch),
        ("merge_size", vision.merge),
    ):
        fields.require(key, value, value)
    for key in ("do_rescale", "do_normalize"):
        fields.require(key, expected=True, default=True)
    if fields.has("size"):  # total pixels, although the keys say edges
        size = fields.part("size")
        pixels = Pixels(minimum=size.count("shortest_edge"), maximum=size.count("longest_edge"))
    else:
        pixels = Pixels(minimum=fields.count("min_pixels"), maximum=fields.count("max_pixels"))
    std = fields.numbers("image_std", vision.channels)
    if min(std) <= 0:
        raise fields.wrong("image_std", "a list of positive numbers")
    scale = fields.number("rescale_factor", 1 / 255)
    return pixels, scale, fields.numbers("image_mean", vision.channels), std


def read_tokens(directory: Path, dims: Dims) -> Tokens:
    """Read tokenizer.json and compare its special ids with config.json.

    Raises:
        CheckpointError: It is missing or damaged, or the two do not belong together.
    """
    from tokenizers import Tokenizer

    path = directory / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(
            f"checkpoint {directory} has no tokenizer.json",
            next_step="It is part of the release: download it into that directory.",
        )
    try:
        vocabulary = Tokenizer.from_file(str(path)).get_vocab(with_added_tokens=True)
    except Exception as error:  # tokenizers raises bare Exception
        raise CheckpointError(
            f"{path} cannot be read", evidence=[str(error)], next_step="Download it again."
        ) from error
    used = max(vocabulary.values(), default=-1) + 1
    if used > dims.text.vocab_rows:
        raise CheckpointError(
            f"{path} and config.json do not belong together",
            evidence=[f"ids end at {used - 1}, the embedding has {dims.text.vocab_rows} rows"],
            next_step="Download both from one revision.",
        )
    ids = dims.ids
    named = {
        "<|vision_start|>": ids.vision_start,
        "<|vision_end|>": ids.vision_end,
        "<|image_pad|>": ids.image_pad,
        "<|video_pad|>": ids.video_pad,
    }
    for token in (*STOPS, *named):
        found = vocabulary.get(token)
        if found is None or named.get(token, found) != found:
            raise CheckpointError(
                f"{path} and config.json do not belong together",
                evidence=[f"{token}: tokenizer.json says {found}, config.json says {named.get(token)}"],
                next_step="Download both from one revision.",
            )
    return Tokens(
        vocab_rows=dims.text.vocab_rows,
        vocab_used=used,
        eos=tuple(vocabulary[token] for token in STOPS),
        vision_start=ids.vision_start,
        vision_end=ids.vision_end,
        image_pad=ids.image_pad,
        video_pad=ids.video_pad,
    )


def read_generation(directory: Path) -> Generation:
    """Return the sampling defaults: generation_config.json where it names a key, else the model card.

    The file wins because it travels with the weights (a fine-tune sets its own); the card only fills what the file
    cannot or does not say, such as the presence penalty.

    Raises:
        CheckpointError: A value is out of its range.
    """
    path = directory / "generation_config.json"
    if not path.is_file():
        return CARD
    found = read_json(path)
    chosen = CARD.model_dump() | {
        key: found[key] for key in Generation.model_fields if found.get(key) is not None
    }
    if found.get("do_sample") is False:
        chosen["temperature"] = 0.0
    try:
        return Generation.model_validate(chosen)
    except ValueError as error:
        raise CheckpointError(
            f"{path} has a value out of range",
            evidence=str(error).splitlines()[:3],
            next_step="Correct or delete it.",
        ) from error


def read_license(directory: Path, model_id: str) -> str:
    """Return the licence that the model card's metadata names; Qwen's own ids are Apache-2.0, others "unknown"."""
    try:
        text = (directory / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    front = _FRONT_MATTER.match(text)
    named = _LICENSE.search(front.group(1)) if front else None
    if named:
        return "Apache-2.0" if named.group(1).lower() == "apache-2.0" else named.group(1)
    return "Apache-2.0" if model_id.startswith("Qwen/") else "unknown"
