"""How Qwen3.5 is exported, registered with Optimum: the signatures of our three graphs, and inputs to try them with."""

from __future__ import annotations

import functools
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from export.checkpoint.dims import state_parts
from export.reference.libraries import import_libraries

TASK: Final = "image-text-to-text"
MODEL_TYPE: Final = "qwen3_5"
GRAPHS: Final = ("vision", "embed", "decoder")


@functools.cache
def register() -> Any:
    """Register with Optimum how Qwen3.5 is exported: the signatures of our three graphs and inputs to try them with.

    Returns:
        The class; its constructor takes ``graph``, one of `GRAPHS`. Axes carry the names that
        `edge.model.manifest` uses. Dummy inputs are those of a run from empty states: text positions, one arena.
    """
    tasks = import_libraries().tasks
    from optimum.exporters.base import ExporterConfig
    from optimum.utils.input_generators import DummyInputGenerator
    from optimum.utils.normalized_config import NormalizedTextAndVisionConfig

    class GraphInputs(DummyInputGenerator):  # type: ignore[misc]  # optimum is untyped
        """Makes the arrays that `dummy_inputs` describes."""

        def __init__(self, task: str, normalized_config: Any, **options: Any) -> None:
            del task
            self._arrays = dummy_inputs(normalized_config.config, **options)

        def supports_input(self, input_name: str) -> bool:
            return input_name in self._arrays

        def generate(self, input_name: str, framework: str = "pt", **_dtypes: str) -> Any:
            array = self._arrays[input_name]
            return array if framework == "np" else import_libraries().torch.from_numpy(array)

    @tasks.create_register("onnx")(MODEL_TYPE, TASK)
    class Qwen35ExportConfig(ExporterConfig):  # type: ignore[misc]  # optimum is untyped
        """One of the three graphs of a bundle."""

        NORMALIZED_CONFIG_CLASS = NormalizedTextAndVisionConfig.with_args(
            text_config="text_config", vision_config="vision_config"
        )
        DUMMY_INPUT_GENERATOR_CLASSES = (GraphInputs,)
        ATOL_FOR_VALIDATION = 1e-3

        def __init__(self, config: Any, task: str, *, graph: str = "decoder", **dtypes: str) -> None:
            super().__init__(config, task, **dtypes)
            self.graph = graph

        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            return _INPUTS[self.graph] | self._states("past")

        @property
        def outputs(self) -> dict[str, dict[int, str]]:
            return _OUTPUTS[self.graph] | self._states("present")

        def _create_dummy_input_generator_classes(self, **shapes: int) -> list[Any]:
            return super()._create_dummy_input_generator_classes(graph=self.graph, **shapes)  # type: ignore[no-any-return]

        def _states(self, when: str) -> dict[str, dict[int, str]]:
            if self.graph != "decoder":
                return {}
            return {
                f"{when}_{name}": {2: "M"} if name.startswith(("key", "value")) else {}
                for name in _states(self._config)
            }

    return Qwen35ExportConfig


_INPUTS: Final[dict[str, dict[str, dict[int, str]]]] = {
    "vision": {
        "patches": {0: "N", 1: "P"},
        "pos_index": {1: "P"},
        "pos_weight": {1: "P"},
        "rope_cos": {0: "P"},
        "rope_sin": {0: "P"},
    },
    "embed": {"input_ids": {1: "T"}},
    "decoder": {
        "inputs_embeds": {1: "T"},
        "position_ids": {1: "T"},
        "rope_cos": {0: "M"},
        "rope_sin": {0: "M"},
        "seqlens_k": {},
        "total_length": {},
    },
}
_OUTPUTS: Final[dict[str, dict[str, dict[int, str]]]] = {
    "vision": {"embeds": {0: "N", 1: "P/4"}},
    "embed": {"embeds": {1: "T"}},
    "decoder": {"hidden": {}},
}


def dummy_inputs(
    config: Any,
    graph: str,
    *,
    pairs: int = 2,
    rows: int = 4,
    columns: int = 6,
    tokens: int = 24,
    arena: int = 32,
) -> dict[str, NDArray[Any]]:
    """Return the inputs of one graph for a first run: random contents, tables as transformers computes them.

    Args:
        config: The checkpoint's configuration.
        graph: One of `GRAPHS`.
        pairs: Frame pairs, each of ``rows`` times ``columns`` patches (both even).
        rows: See ``pairs``.
        columns: See ``pairs``.
        tokens: Length of the text, at most ``arena``.
        arena: Rows of the key and value states.
    """
    rng = np.random.default_rng(0)
    if graph == "embed":
        return {"input_ids": rng.integers(0, config.text_config.vocab_size, (1, tokens))}
    if graph == "vision":
        return _dummy_vision(config.vision_config, rng, pairs, rows, columns)
    states = {
        f"past_{name}": np.zeros([arena if isinstance(n, str) else n for n in shape], np.float32)
        for name, shape in _states(config).items()
    }
    cos, sin = _text_rope(config.text_config, arena)
    return {
        "inputs_embeds": rng.standard_normal((1, tokens, config.text_config.hidden_size), np.float32),
        "position_ids": np.arange(tokens)[None],
        "rope_cos": cos,
        "rope_sin": sin,
        "seqlens_k": np.array([tokens - 1], np.int32),
        "total_length": np.array(tokens, np.int32),
        **states,
    }


def _dummy_vision(
    config: Any, rng: np.random.Generator, pairs: int, rows: int, columns: int
) -> dict[str, NDArray[Any]]:
    torch = import_libraries().torch
    from transformers import vision_utils
    from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5VisionRotaryEmbedding

    grid, merge = torch.tensor([[1, rows, columns]]), config.spatial_merge_size
    index, weight = vision_utils.get_vision_interpolation_indices_and_weights(
        grid,
        num_grid_per_side=int(config.num_position_embeddings**0.5),
        mode="bilinear",
        align_corners=True,
        spatial_merge_size=merge,
    )
    places = vision_utils.get_vision_position_ids(grid, merge)
    cos, sin = Qwen3_5VisionRotaryEmbedding(config)(torch.zeros(1), places)
    half = cos.shape[-1] // 2  # transformers repeats the angles for rotate_half
    depth = config.in_channels * config.temporal_patch_size * config.patch_size**2
    return {
        "patches": rng.integers(0, 256, (pairs, rows * columns, depth), np.uint8),
        "pos_index": np.ascontiguousarray(index.T.numpy()),
        "pos_weight": np.ascontiguousarray(weight.T.float().numpy()),
        "rope_cos": np.ascontiguousarray(cos[:, :half].numpy()),
        "rope_sin": np.ascontiguousarray(sin[:, :half].numpy()),
    }


def _text_rope(config: Any, rows: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    torch = import_libraries().torch
    from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5TextRotaryEmbedding

    places = torch.arange(rows).expand(3, 1, -1)
    cos, sin = Qwen3_5TextRotaryEmbedding(config)(torch.zeros(1), places)
    half = cos.shape[-1] // 2
    return np.ascontiguousarray(cos[0, :, :half].numpy()), np.ascontiguousarray(sin[0, :, :half].numpy())


def _states(config: Any) -> dict[str, tuple[int | str, ...]]:
    """Return the name (without past or present) and shape of every state of the decoder."""
    text = config.text_config
    keys = text.linear_num_key_heads * text.linear_key_head_dim
    values = text.linear_num_value_heads * text.linear_value_head_dim
    cache = (1, text.num_key_value_heads, "M", text.head_dim)
    found: dict[str, tuple[int | str, ...]] = {}
    for layer, kind in enumerate(text.layer_types):
        if kind == "full_attention":
            found |= {f"key.{layer}": cache, f"value.{layer}": cache}
        else:
            found[f"conv.{layer}"] = (1, text.linear_conv_kernel_dim - 1, 2 * keys + values)
            parts = state_parts(text.linear_value_head_dim)
            heads, columns = text.linear_num_value_heads * parts, text.linear_value_head_dim // parts
            found[f"recurrent.{layer}"] = (1, heads, text.linear_key_head_dim, columns)
    return found
