"""A manifest with the dimensions of a small model, and a bundle around it whose graphs are never loaded."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.model.manifest import MANIFEST, Manifest

FIRST_SPECIAL = 640  # of the toy vocabulary
VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD = 649, 650, 652, 653

FILES = {
    "vision.onnx": b"vision graph",
    "embed.onnx": b"embed graph",
    "decoder.onnx": b"decoder graph",
    "decoder.data": bytes(range(256)) * 40,
    "tokenizer.json": b"{}",
}


def content() -> dict[str, Any]:
    """Return the parsed JSON of a manifest that is right in every respect."""

    def tensor(name: str, dtype: str, *shape: int | str) -> dict[str, Any]:
        return {"name": name, "dtype": dtype, "shape": list(shape)}

    shapes: dict[str, tuple[str, list[int | str]]] = {
        "key_0": ("kv", [1, 2, "M", 32]),
        "conv_0": ("conv", [1, 3, 384]),
        "delta_0": ("recurrent", [1, 4, 32, 32]),
    }
    states: list[dict[str, Any]] = [
        {"kind": kind, "input": f"past_{name}", "output": f"new_{name}", "dtype": "float32", "shape": shape}
        for name, (kind, shape) in shapes.items()
    ]

    def state_tensors(side: str) -> list[dict[str, Any]]:
        return [tensor(state[side], "float32", *state["shape"]) for state in states]

    return {
        "schema": "edgeclip.bundle/1",
        "created": "2026-11-22T12:00:00Z",
        "software": "edgeclip 0.1.0",
        "model": {
            "id": "example",
            "revision": "",
            "architecture": "qwen3_5",
            "license": "apache-2.0",
            "note": "",
            "parameters": 1,
        },
        "recipe": {"name": "fp32", "precision": {}},
        "runtime": {"onnxruntime_at_least": "1.31", "onnxruntime_below": "1.32"},
        "files": {
            name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in FILES.items()
        },
        "graphs": {
            "vision": {
                "file": "vision.onnx",
                "inputs": [
                    tensor("patches", "uint8", "N", "P", 1536),
                    tensor("pos_index", "int64", 4, "P"),
                    tensor("pos_weight", "float32", 4, "P"),
                    tensor("rope_cos", "float32", "P", 16),
                    tensor("rope_sin", "float32", "P", 16),
                ],
                "outputs": [tensor("embeds", "float32", "N", "P/4", 64)],
            },
            "embed": {
                "file": "embed.onnx",
                "inputs": [tensor("input_ids", "int64", 1, "T")],
                "outputs": [tensor("embeds", "float32", 1, "T", 64)],
            },
            "decoder": {
                "file": "decoder.onnx",
                "inputs": [
                    tensor("inputs_embeds", "float32", 1, "T", 64),
                    tensor("position_ids", "int64", 1, "T"),
                    tensor("rope_cos", "float32", "M", 4),
                    tensor("rope_sin", "float32", "M", 4),
                    tensor("seqlens_k", "int32", 1),
                    tensor("total_length", "int32"),
                    *state_tensors("input"),
                ],
                "outputs": [tensor("logits", "float32", 1, 704), *state_tensors("output")],
            },
        },
        "states": states,
        "text": {
            "hidden": 64,
            "context": 32768,
            "rope_theta": 1e7,
            "rope_dims": 8,
            "mrope_section": [2, 1, 1],
        },
        "vision": {
            "patch_size": 16,
            "temporal_patch_size": 2,
            "merge_size": 2,
            "channels": 3,
            "positions": 8,
            "head_dim": 32,
            "rope_theta": 1e4,
        },
        "video_pixels": {"minimum": 4096, "maximum": 25165824},
        "image_pixels": {"minimum": 65536, "maximum": 16777216},
        "tokens": {
            "vocab_rows": 704,
            "vocab_used": 673,
            "eos": [642, 640],
            "vision_start": VISION_START,
            "vision_end": VISION_END,
            "image_pad": IMAGE_PAD,
            "video_pad": VIDEO_PAD,
        },
        "prompt": {
            "user_open": "<|im_start|>user\n",
            "user_close": "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
            "timestamp": "<{time:.1f} seconds>",
        },
        "generation": {
            "temperature": 0.7,
            "top_p": 0.8,
            "top_k": 20,
            "min_p": 0,
            "presence_penalty": 1.5,
            "repetition_penalty": 1.0,
        },
    }


def manifest() -> Manifest:
    """Return the manifest."""
    return Manifest.model_validate(content())


def write(path: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> Path:
    """Write the bundle with a changed manifest."""
    path.mkdir()
    for name, data in FILES.items():
        (path / name).write_bytes(data)
    made = content()
    change(made)
    (path / MANIFEST).write_text(json.dumps(made), encoding="utf-8")
    return path
