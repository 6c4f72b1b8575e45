"""What a bundle holds, read from its manifest and graphs without running anything."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from edge.errors import BundleError
from edge.model.bundle import Bundle, open_bundle
from edge.model.manifest import State
from export.bundle import CHOICE
from export.checkpoint.names import EMBEDDING, HEAD, TEXT, VISION

_MIB: Final = 1 << 20
_ITEM_BYTES: Final = {"float32": 4, "float16": 2, "uint8": 1, "int8": 1, "int32": 4, "int64": 8}
_CLASSES: Final = (".mlp.", "mlp"), (".self_attn.", "attention"), (".linear_attn.", "deltanet")


def inspect(path: Path) -> dict[str, Any]:
    """Describe a bundle after the same checks as the runtime's, hashes included.

    Returns:
        A JSON object; sizes in bytes.

    Raises:
        BundleError: The bundle is missing or damaged.
    """
    bundle = open_bundle(path)
    manifest = bundle.manifest
    weights: Counter[str] = Counter()
    for name, size in _stored(bundle):
        weights[_weight_class(name)] += size
    kinds = Counter(state.kind for state in manifest.states)
    return {
        "path": str(path),
        "hash": bundle.hash,
        "created": manifest.created,
        "software": manifest.software,
        "model": manifest.model.model_dump(),
        "recipe": manifest.recipe.model_dump(),
        "choice": _reason(path),
        "runtime": manifest.runtime.model_dump(),
        "size": sum(entry.size for entry in manifest.files.values()),
        "files": {name: entry.size for name, entry in sorted(manifest.files.items())},
        "weights": dict(sorted(weights.items(), key=lambda item: -item[1])),
        "text": manifest.text.model_dump(mode="json"),
        "vision": manifest.vision.model_dump(mode="json"),
        "states": {
            "attention_layers": kinds["kv"] // 2,
            "deltanet_layers": kinds["recurrent"],
            "kv_bytes_per_token": sum(_bytes(s) for s in manifest.states if s.kind == "kv"),
            "fixed_bytes": sum(_bytes(s) for s in manifest.states if s.kind != "kv"),
        },
        "tokens": manifest.tokens.model_dump(mode="json"),
        "prompt": manifest.prompt.model_dump(),
        "generation": manifest.generation.model_dump(),
        "video_pixels": manifest.video_pixels.model_dump(),
        "image_pixels": manifest.image_pixels.model_dump(),
    }


def render(found: dict[str, Any]) -> str:
    """Set a description for a person at a terminal."""
    model, states = found["model"], found["states"]
    precision = found["recipe"]["precision"]
    lines = [
        f"{found['path']}",
        *_rows(
            {
                "model": f"{model['id']} at {model['revision']}, {model['parameters']:,} parameters",
                "licence": model["license"],
                **({"note": model["note"]} if model["note"] else {}),
                "made": f"{found['created']} by {found['software']}",
                "onnxruntime": f"from {found['runtime']['onnxruntime_at_least']}, "
                f"below {found['runtime']['onnxruntime_below']}",
                "hash": found["hash"],
            }
        ),
        f"recipe {found['recipe']['name']}, {found['size'] / _MIB:,.1f} MiB",
        *([f"  {found['choice']}"] if found["choice"] else []),
        *_rows(
            {
                kind: f"{size / _MIB:8,.1f} MiB  {precision.get(kind, 'float32')}"
                for kind, size in found["weights"].items()
            }
        ),
        "files",
        *_rows({name: f"{size / _MIB:8,.1f} MiB" for name, size in found["files"].items()}),
        f"states of {states['deltanet_layers']} DeltaNet and {states['attention_layers']} attention layers",
        *_rows(
            {
                "per token": f"{states['kv_bytes_per_token'] / 1024:,.1f} KiB",
                "fixed": f"{states['fixed_bytes'] / _MIB:,.1f} MiB",
            }
        ),
    ]
    for title in ("text", "vision", "video_pixels", "image_pixels", "tokens", "generation"):
        lines += [title.replace("_", " "), *_rows(found[title])]
    lines += ["prompt", *_rows({key: repr(value) for key, value in found["prompt"].items()})]
    return "\n".join(lines)


def _rows(values: dict[str, Any]) -> Iterator[str]:
    width = max(map(len, values), default=0)
    for key, value in values.items():
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        yield f"  {key:<{width}}  {text}"


def _reason(path: Path) -> str:
    """Return why the recipe was taken, where `export.choice` took it and its report still lies there."""
    try:
        return str(json.loads((path / CHOICE).read_text(encoding="utf-8"))["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _bytes(state: State) -> int:
    """Return the size of a state, of one row where its length is open."""
    return math.prod(dim for dim in state.shape if isinstance(dim, int)) * _ITEM_BYTES[state.dtype]


def _stored(bundle: Bundle) -> Iterator[tuple[str, int]]:
    """Yield name and size of every stored tensor; bytes that two graphs share count once."""
    import onnx

    seen: set[tuple[str, str]] = set()
    for graph in bundle.manifest.graphs.all():
        try:
            model = onnx.load(bundle.path / graph.file, load_external_data=False)
        except Exception as error:  # protobuf's DecodeError, which onnx does not promise
            raise BundleError(
                f"{bundle.path / graph.file} is no ONNX graph",
                evidence=[str(error)],
                next_step="Convert it again: edge-export convert SOURCE OUT",
            ) from error
        for tensor in model.graph.initializer:
            if tensor.data_location != onnx.TensorProto.EXTERNAL:
                yield tensor.name, len(tensor.raw_data)
                continue
            entry = {item.key: item.value for item in tensor.external_data}
            place = entry["location"], entry["offset"]
            if place not in seen:
                seen.add(place)
                yield tensor.name, int(entry["length"])


def _weight_class(name: str) -> str:
    if name.startswith(VISION):
        return "vision"
    if name.startswith(EMBEDDING):
        return "embedding"
    if name.startswith(HEAD):
        return "head"
    if name.startswith(f"{TEXT}.layers."):
        return next((kind for part, kind in _CLASSES if part in name), "norms")
    return "norms"
