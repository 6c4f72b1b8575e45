"""What `config.json` of a Qwen3.5 checkpoint says: every dimension that the graphs are built from.

Defaults stand only where transformers 5.23 has them too (`models/qwen3_5/configuration_qwen3_5.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from edge.errors import CheckpointError
from export.checkpoint.fields import Fields, read_json

Mixer = Literal["linear_attention", "full_attention"]
Activation = Literal["gelu_pytorch_tanh", "gelu", "silu"]

ARCHITECTURE: Final = "qwen3_5"
_STATE_COLUMNS: Final = 64  # of a part; with 16 the kernel takes a path that is ten times slower
_VISION_ROPE_THETA: Final = 10_000.0  # where vision_config names none
_MIXERS: Final[tuple[Mixer, ...]] = get_args(Mixer)
_ACTIVATIONS: Final[tuple[Activation, ...]] = get_args(Activation)


def state_parts(value_dim: int) -> int:
    """Return into how many narrower ones a DeltaNet head of so many values is cut.

    The delta rule treats each column of a state by itself, so the result is the same to the bit; but the kernel goes through a
    head's state three times a token, and 128 x 64 stays in a core's nearest caches where 128 x 128 does not: 1.4 times as fast.

    Args:
        value_dim: Values of one head, columns of its state of shape (key_dim, value_dim).

    Returns:
        How many parts; 1 where the columns cannot be shared out evenly.
    """
    return value_dim // _STATE_COLUMNS if value_dim % _STATE_COLUMNS == 0 else 1


@dataclass(frozen=True, slots=True)
class TextDims:
    """The decoder; ``rope_dims`` are the leading dimensions of a head that are rotated."""

    hidden: int
    ffn: int
    vocab_rows: int
    tied: bool
    mixers: tuple[Mixer, ...]
    heads: int
    kv_heads: int
    head_dim: int
    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    conv_kernel: int
    eps: float
    context: int
    rope_theta: float
    rope_dims: int
    mrope_section: tuple[int, int, int]

    @property
    def key_width(self) -> int:
        """Width of all DeltaNet keys (and of its queries)."""
        return self.key_heads * self.key_dim

    @property
    def value_width(self) -> int:
        """Width of all DeltaNet values."""
        return self.value_heads * self.value_dim

    @property
    def conv_width(self) -> int:
        """Channels of the DeltaNet convolution: queries, keys, values."""
        return 2 * self.key_width + self.value_width


@dataclass(frozen=True, slots=True)
class VisionDims:
    """The vision tower; ``positions`` is one side of the square position table."""

    depth: int
    hidden: int
    heads: int
    ffn: int
    positions: int
    channels: int
    patch: int
    temporal_patch: int
    merge: int
    out: int
    activation: Activation
    rope_theta: float

    @property
    def head_dim(self) -> int:
        """Size of one attention head."""
        return self.hidden // self.heads

    @property
    def patch_values(self) -> int:
        """Values of one patch: channels x frames x rows x columns."""
        return self.channels * self.temporal_patch * self.patch * self.patch

    @property
    def merged(self) -> int:
        """Width of the merger's input: the patches of one visual token side by side."""
        return self.merge * self.merge * self.hidden


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Token ids that config.json names."""

    image_pad: int
    video_pad: int
    vision_start: int
    vision_end: int


@dataclass(frozen=True, slots=True)
class Dims:
    """All of it."""

    text: TextDims
    vision: VisionDims
    ids: SpecialIds


def read_dims(directory: Path) -> Dims:
    """Read config.json.

    Raises:
        CheckpointError: It is missing, damaged, of another architecture, or a variant that the graphs do not cover.
    """
    path = directory / "config.json"
    config = Fields(read_json(path), "config.json: ")
    kind = config.values.get("model_type")
    if kind != ARCHITECTURE:
        raise CheckpointError(
            f"{directory} holds a model of another architecture",
            evidence=[f"{path}: model_type is {kind!r}, this converter knows {ARCHITECTURE!r}"],
            next_step="Convert a checkpoint of Qwen3.5, for example Qwen/Qwen3.5-0.8B.",
        )
    dims = Dims(
        _text(config),
        _vision(config.part("vision_config")),
        SpecialIds(
            image_pad=config.index("image_token_id"),
            video_pad=config.index("video_token_id"),
            vision_start=config.index("vision_start_token_id"),
            vision_end=config.index("vision_end_token_id"),
        ),
    )
    if dims.vision.out != dims.text.hidden:
        raise CheckpointError(
            "config.json: vision_config.out_hidden_size and text_config.hidden_size differ",
            evidence=[f"{dims.vision.out} and {dims.text.hidden}"],
            next_step="Compare it with the file of the original release.",
        )
    return dims


def _text(config: Fields) -> TextDims:
    text = config.part("text_config")
    text.require("hidden_act", "silu", "silu")
    text.require("attention_bias", expected=False, default=False)
    text.require("attn_output_gate", expected=True, default=True)
    rope = text.part("rope_parameters")
    rope.require("rope_type", "default", "default")
    rope.require("mrope_interleaved", expected=True)
    head_dim = text.count("head_dim")
    rope_dims = int(head_dim * rope.number("partial_rotary_factor", 0.25))
    sections = tuple(int(item) for item in rope.numbers("mrope_section", 3))
    if sum(sections) != rope_dims // 2 or rope_dims % 2 or rope_dims > head_dim:
        raise rope.wrong("mrope_section", f"three counts that add up to {rope_dims // 2}")
    key_heads, value_heads = text.count("linear_num_key_heads"), text.count("linear_num_value_heads")
    if value_heads % key_heads:
        raise text.wrong("linear_num_value_heads", f"a multiple of linear_num_key_heads, {key_heads}")
    heads, kv_heads = text.count("num_attention_heads"), text.count("num_key_value_heads")
    if heads % kv_heads:
        raise text.wrong("num_attention_heads", f"a multiple of num_key_value_heads, {kv_heads}")
    return TextDims(
        hidden=text.count("hidden_size"),
        ffn=text.count("intermediate_size"),
        vocab_rows=text.count("vocab_size"),
        tied=config.flag("tie_word_embeddings", default=text.flag("tie_word_embeddings", default=False)),
        mixers=_mixers(text),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        key_heads=key_heads,
        value_heads=value_heads,
        key_dim=text.count("linear_key_head_dim"),
        value_dim=text.count("linear_value_head_dim"),
        conv_kernel=text.count("linear_conv_kernel_dim"),
        eps=text.number("rms_norm_eps", 1e-6),
        context=text.count("max_position_embeddings"),
        rope_theta=rope.number("rope_theta"),
        rope_dims=rope_dims,
        mrope_section=(sections[0], sections[1], sections[2]),
    )


def _mixers(text: Fields) -> tuple[Mixer, ...]:
    layers = text.count("num_hidden_layers")
    if not text.has("layer_types"):
        interval = text.count("full_attention_interval") if text.has("full_attention_interval") else 4
        return tuple(_MIXERS[(layer + 1) % interval == 0] for layer in range(layers))
    listed = text.values["layer_types"]
    if not isinstance(listed, list) or len(listed) != layers or not set(listed) <= set(_MIXERS):
        raise text.wrong("layer_types", f"a list of {layers} of {', '.join(_MIXERS)}")
    return tuple(listed)


def _vision(vision: Fields) -> VisionDims:
    vision.require("temporal_patch_size", 2, 2)
    vision.require("in_channels", 3, 3)
    vision.require("deepstack_visual_indexes", [], [])
    table = vision.count("num_position_embeddings")
    if math.isqrt(table) ** 2 != table:
        raise vision.wrong("num_position_embeddings", "a square number")
    hidden, heads = vision.count("hidden_size"), vision.count("num_heads")
    if hidden % heads or (hidden // heads) % 4:
        raise vision.wrong("num_heads", f"a divisor of {hidden} that leaves heads of a multiple of 4")
    theta = _VISION_ROPE_THETA
    if vision.has("rope_parameters"):
        theta = vision.part("rope_parameters").number("rope_theta", theta)
    return VisionDims(
        depth=vision.count("depth"),
        hidden=hidden,
        heads=heads,
        ffn=vision.count("intermediate_size"),
        positions=math.isqrt(table),
        channels=3,
        patch=vision.count("patch_size"),
        temporal_patch=2,
        merge=vision.count("spatial_merge_size"),
        out=vision.count("out_hidden_size"),
        activation=_activation(vision),
        rope_theta=theta,
    )


def _activation(vision: Fields) -> Activation:
    named = vision.values.get("hidden_act", "gelu_pytorch_tanh")
    for known in _ACTIVATIONS:
        if named == known:
            return known
    raise vision.wrong("hidden_act", f"one of {', '.join(_ACTIVATIONS)}")
