"""Qwen3.5 checkpoint directories with random weights, in the layout of the hub, of any dimensions."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import numpy as np
from numpy.typing import NDArray

from export.demo import vocabulary

Dtype = Literal["bfloat16", "float32"]

BYTES: Final = {"bfloat16": 2, "float32": 4}
VIDEO_PIXELS: Final = (4_096, 25_165_824)
"""Least and most pixels of a whole clip, frames x height x width, in the releases."""
IMAGE_PIXELS: Final = (65_536, 16_777_216)
"""Least and most pixels of a still in the releases."""
_SAFETENSORS: Final = {"bfloat16": "BF16", "float32": "F32"}
_CHUNK: Final = 1 << 22  # elements drawn at once: 16 MiB of float32


@dataclass(frozen=True, slots=True)
class Vision:
    """Dimensions of the vision tower."""

    depth: int
    hidden: int
    heads: int
    ffn: int
    positions: int  # a square number: the learned position grid


@dataclass(frozen=True, slots=True)
class Preset:
    """Dimensions of one model; every fourth layer is full attention."""

    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mrope_section: tuple[int, int, int]  # sums to half of the rotary dimensions, head_dim / 8
    key_heads: int
    value_heads: int
    linear_dim: int
    tied: bool
    rows: int  # of the embedding; more than the tokenizer has ids
    context: int
    vision: Vision
    mtp: bool = False
    dtype: Dtype = "float32"
    shards: int = 1
    hub_names: bool = False  # model.safetensors-0000x-of-0000y.safetensors, as the small releases are named


TOY: Final = Preset(
    hidden=64,
    ffn=160,
    layers=8,
    heads=4,
    kv_heads=2,
    head_dim=32,
    mrope_section=(2, 1, 1),
    key_heads=4,
    value_heads=4,
    linear_dim=32,
    tied=True,
    rows=704,
    context=32_768,
    vision=Vision(depth=2, hidden=64, heads=2, ffn=128, positions=64),
)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a checkpoint and how its values are drawn."""

    name: str
    shape: tuple[int, ...]
    std: float = 0.0
    mean: float = 0.0
    draw: Literal["normal", "dt_bias", "a_log"] = "normal"
    keep_float32: bool = False  # the releases keep these in float32 whatever the rest is

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def dtype(self, wanted: Dtype) -> Dtype:
        """Return the type in which it is stored when the checkpoint's is ``wanted``."""
        return "float32" if self.keep_float32 else wanted


def write(
    dims: Preset,
    directory: Path,
    *,
    seed: int = 0,
    dtype: Dtype | None = None,
    shards: int | None = None,
    write_tokenizer: Callable[[Path], dict[str, int]] = vocabulary.write,
) -> Path:
    """Write a whole checkpoint; what is None follows the preset.

    A tensor's values depend on ``seed`` and its name alone, so they are the same however the file is sharded.

    Args:
        dims: Dimensions.
        directory: Where; it must not hold a config.json yet.
        seed: Of all values.
        dtype: Of the stored weights.
        shards: Into how many files they go.
        write_tokenizer: Writes the tokenizer's files and returns the ids of the added tokens.

    Returns:
        The directory.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if (directory / "config.json").exists():
        raise FileExistsError(f"{directory} holds a checkpoint already")
    ids = write_tokenizer(directory)
    stored = dtype or dims.dtype
    write_settings(directory, ids)
    _write_weights(directory, dims, seed, stored, shards or dims.shards)
    _write_json(directory / "config.json", config(dims, ids, stored))  # last: a directory with it is whole
    return directory


def write_settings(
    directory: Path,
    ids: dict[str, int],
    *,
    video: tuple[int, int] = VIDEO_PIXELS,
    image: tuple[int, int] = IMAGE_PIXELS,
) -> None:
    """Write the JSON files of generation and preprocessing.

    Args:
        directory: Where.
        ids: Of the added tokens.
        video: Least and most pixels of a whole clip.
        image: Least and most pixels of a still.
    """
    for name, content in {
        "generation_config.json": _generation_config(ids),
        "preprocessor_config.json": _preprocessor_config(
            "image_processor_type", "Qwen2VLImageProcessorFast", image
        ),
        "video_preprocessor_config.json": _preprocessor_config(
            "video_processor_type", "Qwen3VLVideoProcessor", video
        ),
    }.items():
        _write_json(directory / name, content)


def config(dims: Preset, ids: dict[str, int], dtype: Dtype) -> dict[str, Any]:
    """Return config.json with the keys of the released ones."""
    return {
        "architectures": ["Qwen3_5ForConditionalGeneration"],
        "image_token_id": ids["<|image_pad|>"],
        "model_type": "qwen3_5",
        "text_config": {
            "attention_bias": False,
            "attention_dropout": 0.0,
            "attn_output_gate": True,
            "dtype": dtype,
            "eos_token_id": ids["<|endoftext|>"],
            "full_attention_interval": 4,
            "head_dim": dims.head_dim,
            "hidden_act": "silu",
            "hidden_size": dims.hidden,
            "initializer_range": 0.02,
            "intermediate_size": dims.ffn,
            "layer_types": [
                "full_attention" if _is_full(layer) else "linear_attention" for layer in range(dims.layers)
            ],
            "linear_conv_kernel_dim": 4,
            "linear_key_head_dim": dims.linear_dim,
            "linear_num_key_heads": dims.key_heads,
            "linear_num_value_heads": dims.value_heads,
            "linear_value_head_dim": dims.linear_dim,
            "max_position_embeddings": dims.context,
            "mlp_only_layers": [],
            "model_type": "qwen3_5_text",
            "mtp_num_hidden_layers": int(dims.mtp),
            "mtp_use_dedicated_embeddings": False,
            "num_attention_heads": dims.heads,
            "num_hidden_layers": dims.layers,
            "num_key_value_heads": dims.kv_heads,
            "rms_norm_eps": 1e-06,
            "tie_word_embeddings": dims.tied,
            "use_cache": True,
            "vocab_size": dims.rows,
            "mamba_ssm_dtype": "float32",
            "rope_parameters": {
                "mrope_interleaved": True,
                "mrope_section": list(dims.mrope_section),
                "rope_type": "default",
                "rope_theta": 10000000,
                "partial_rotary_factor": 0.25,
            },
        },
        "tie_word_embeddings": dims.tied,
        "transformers_version": "4.57.0.dev0",
        "video_token_id": ids["<|video_pad|>"],
        "vision_config": {
            "deepstack_visual_indexes": [],
            "depth": dims.vision.depth,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_size": dims.vision.hidden,
            "in_channels": 3,
            "initializer_range": 0.02,
            "intermediate_size": dims.vision.ffn,
            "model_type": "qwen3_5",
            "num_heads": dims.vision.heads,
            "num_position_embeddings": dims.vision.positions,
            "out_hidden_size": dims.hidden,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        "vision_end_token_id": ids["<|vision_end|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
    }


def tensors(dims: Preset) -> list[Tensor]:
    """List the tensors of a checkpoint under the names that a saved `Qwen3_5ForConditionalGeneration` has.

    The scales keep every branch near a tenth of unit variance, so activations grow slowly over 24 layers, and give
    logits a standard deviation of about 2.5.
    """
    embedding = Tensor(
        "model.language_model.embed_tokens.weight", (dims.rows, dims.hidden), std=2.5 / math.sqrt(dims.hidden)
    )
    found = [embedding]
    for layer in range(dims.layers):
        at = f"model.language_model.layers.{layer}"
        found += (
            _full_attention(dims, f"{at}.self_attn")
            if _is_full(layer)
            else _delta_net(dims, f"{at}.linear_attn")
        )
        found += _mlp_and_norms(dims, at)
    found += [_offset_norm("model.language_model.norm", dims.hidden), *_vision(dims)]
    if dims.mtp:
        found += [
            _linear("mtp.fc", 2 * dims.hidden, dims.hidden),
            *_full_attention(dims, "mtp.layers.0.self_attn"),
            *_mlp_and_norms(dims, "mtp.layers.0"),
            *(
                _offset_norm(f"mtp.{name}", dims.hidden)
                for name in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden")
            ),
        ]
    if not dims.tied:
        found.append(Tensor("lm_head.weight", embedding.shape, std=embedding.std))
    return sorted(found, key=lambda tensor: tensor.name)


def _is_full(layer: int) -> bool:
    return layer % 4 == 3


def _linear(name: str, inputs: int, outputs: int, gain: float = 1.0) -> Tensor:
    return Tensor(f"{name}.weight", (outputs, inputs), std=gain / math.sqrt(inputs))


def _offset_norm(name: str, width: int, mean: float = 0.0) -> Tensor:
    return Tensor(f"{name}.weight", (width,), std=0.1, mean=mean)  # the model adds 1


def _layer_norm(name: str, width: int) -> list[Tensor]:
    return [Tensor(f"{name}.weight", (width,), std=0.1, mean=1.0), _bias(name, width)]


def _bias(name: str, width: int) -> Tensor:
    return Tensor(f"{name}.bias", (width,), std=0.05)


def _full_attention(dims: Preset, at: str) -> list[Tensor]:
    queries, keys = dims.heads * dims.head_dim, dims.kv_heads * dims.head_dim
    return [
        _linear(f"{at}.q_proj", dims.hidden, 2 * queries),  # per head: query, then gate
        _linear(f"{at}.k_proj", dims.hidden, keys),
        _linear(f"{at}.v_proj", dims.hidden, keys),
        _linear(f"{at}.o_proj", queries, dims.hidden),
        _offset_norm(f"{at}.q_norm", dims.head_dim, mean=0.4),  # sharper than uniform attention
        _offset_norm(f"{at}.k_norm", dims.head_dim, mean=0.4),
    ]


def _delta_net(dims: Preset, at: str) -> list[Tensor]:
    keys, values = dims.key_heads * dims.linear_dim, dims.value_heads * dims.linear_dim
    channels = 2 * keys + values
    return [
        _linear(f"{at}.in_proj_qkv", dims.hidden, channels),
        _linear(f"{at}.in_proj_z", dims.hidden, values),
        _linear(f"{at}.in_proj_b", dims.hidden, dims.value_heads),
        _linear(f"{at}.in_proj_a", dims.hidden, dims.value_heads),
        Tensor(f"{at}.conv1d.weight", (channels, 1, 4), std=0.5),
        Tensor(f"{at}.dt_bias", (dims.value_heads,), draw="dt_bias"),
        Tensor(f"{at}.A_log", (dims.value_heads,), draw="a_log", keep_float32=True),
        Tensor(f"{at}.norm.weight", (dims.linear_dim,), std=0.1, mean=1.0, keep_float32=True),
        _linear(f"{at}.out_proj", values, dims.hidden, gain=0.5),
    ]


def _mlp_and_norms(dims: Preset, at: str) -> list[Tensor]:
    return [
        _offset_norm(f"{at}.input_layernorm", dims.hidden),
        _offset_norm(f"{at}.post_attention_layernorm", dims.hidden),
        _linear(f"{at}.mlp.gate_proj", dims.hidden, dims.ffn),
        _linear(f"{at}.mlp.up_proj", dims.hidden, dims.ffn),
        _linear(f"{at}.mlp.down_proj", dims.ffn, dims.hidden, gain=0.5),
    ]


def _vision(dims: Preset) -> Iterator[Tensor]:
    tower, at = dims.vision, "model.visual"
    yield Tensor(
        f"{at}.patch_embed.proj.weight", (tower.hidden, 3, 2, 16, 16), std=1 / math.sqrt(3 * 2 * 16 * 16)
    )
    yield _bias(f"{at}.patch_embed.proj", tower.hidden)
    yield Tensor(f"{at}.pos_embed.weight", (tower.positions, tower.hidden), std=0.3)
    for block in range(tower.depth):
        here = f"{at}.blocks.{block}"
        yield from _layer_norm(f"{here}.norm1", tower.hidden)
        yield from _layer_norm(f"{here}.norm2", tower.hidden)
        for name, inputs, outputs, gain in (
            ("attn.qkv", tower.hidden, 3 * tower.hidden, 1.0),
            ("attn.proj", tower.hidden, tower.hidden, 0.5),
            ("mlp.linear_fc1", tower.hidden, tower.ffn, 1.0),
            ("mlp.linear_fc2", tower.ffn, tower.hidden, 0.5),
        ):
            yield _linear(f"{here}.{name}", inputs, outputs, gain)
            yield _bias(f"{here}.{name}", outputs)
    merged = 4 * tower.hidden
    yield from _layer_norm(f"{at}.merger.norm", tower.hidden)
    yield _linear(f"{at}.merger.linear_fc1", merged, merged)
    yield _bias(f"{at}.merger.linear_fc1", merged)
    yield _linear(f"{at}.merger.linear_fc2", merged, dims.hidden, gain=0.5)
    yield _bias(f"{at}.merger.linear_fc2", dims.hidden)


def _values(tensor: Tensor, seed: int) -> Iterator[NDArray[np.float32]]:
    """Draw a tensor's values in order, a chunk at a time."""
    rng = np.random.Generator(np.random.SFC64([seed, zlib.crc32(tensor.name.encode())]))
    # Decay as Mamba draws it: steps from 0.001 to 0.1, rates from 1 to 16. Without it nothing is remembered.
    if tensor.draw == "dt_bias":
        step = np.exp(rng.uniform(math.log(0.001), math.log(0.1), tensor.size))
        yield (step + np.log(-np.expm1(-step))).astype(np.float32)  # the inverse of softplus
        return
    if tensor.draw == "a_log":
        yield np.log(rng.uniform(1.0, 16.0, tensor.size)).astype(np.float32)
        return
    for start in range(0, tensor.size, _CHUNK):
        chunk = rng.standard_normal(min(_CHUNK, tensor.size - start), dtype=np.float32)
        chunk *= np.float32(tensor.std)
        chunk += np.float32(tensor.mean)
        yield chunk


def _encode(values: NDArray[np.float32], dtype: Dtype) -> bytes:
    if dtype == "float32":
        return values.astype("<f4", copy=False).tobytes()
    bits = values.view(np.uint32)
    bits += 0x7FFF + (bits >> 16 & 1)  # round to nearest even; the values are finite
    return (bits >> 16).astype("<u2").tobytes()


def _write_weights(directory: Path, dims: Preset, seed: int, dtype: Dtype, shards: int) -> None:
    listed = tensors(dims)
    sizes = {tensor.name: tensor.size * BYTES[tensor.dtype(dtype)] for tensor in listed}
    total = sum(sizes.values())
    groups: list[list[Tensor]] = [[] for _ in range(shards)]
    done = 0
    for tensor in listed:
        groups[done * shards // total].append(tensor)
        done += sizes[tensor.name]
    groups = [group for group in groups if group]  # one tensor may be larger than a shard
    stem = "model.safetensors" if dims.hub_names else "model"
    names = [f"{stem}-{i:05d}-of-{len(groups):05d}.safetensors" for i in range(1, len(groups) + 1)]
    if len(groups) == 1 and not dims.hub_names:
        names = ["model.safetensors"]
    else:
        where = {tensor.name: name for name, group in zip(names, groups, strict=True) for tensor in group}
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
        _write_json(directory / "model.safetensors.index.json", index)
    for name, group in zip(names, groups, strict=True):
        with (directory / name).open("wb") as file:
            _write_shard(file, group, seed, dtype)


def _write_shard(file: BinaryIO, group: list[Tensor], seed: int, dtype: Dtype) -> None:
    """Write one safetensors file: 8 bytes of length, a JSON header, the data."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in group:
        stored = tensor.dtype(dtype)
        begin, end = end, end + tensor.size * BYTES[stored]
        header[tensor.name] = {
            "dtype": _SAFETENSORS[stored],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for tensor in group:
        file.writelines(_encode(chunk, tensor.dtype(dtype)) for chunk in _values(tensor, seed))


def _generation_config(ids: dict[str, int]) -> dict[str, Any]:
    return {
        "bos_token_id": ids["<|endoftext|>"],
        "do_sample": True,
        "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
        "pad_token_id": ids["<|endoftext|>"],
        "temperature": 0.7,
        "top_k": 20,
        "top_p": 0.8,
    }


def _preprocessor_config(kind: str, name: str, pixels: tuple[int, int]) -> dict[str, Any]:
    smallest, largest = pixels
    return {
        "size": {"longest_edge": largest, "shortest_edge": smallest},  # total pixels, although called edges
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "processor_class": "Qwen3VLProcessor",
        kind: name,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
