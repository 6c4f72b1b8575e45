"""The reference: Optimum resolves and loads the checkpoint, transformers runs it. The only home of torch in this project."""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from edge.errors import CheckpointError

TASK: Final = "image-text-to-text"
MODEL_TYPE: Final = "qwen3_5"
Dtype = Literal["float32", "bfloat16"]

GRAPHS: Final = ("vision", "embed", "decoder")

_VIDEO: Final = "<|vision_start|><|video_pad|><|vision_end|>"  # what the chat template writes for a video
_OPERATORS: Final = ("nms", "qnms")  # of torchvision; it registers meta kernels for them when it is imported


@dataclass(frozen=True, slots=True)
class Inputs:
    """One prompt as the processor of transformers prepares it.

    Attributes:
        input_ids: int64, shape (T,).
        positions: int64, shape (3, T): time, row and column of M-RoPE.
        grid: Patches (pairs, rows, columns) of the image or video; None for text.
        patches: uint8, shape (pairs, rows * columns, C): the processor's patches before normalisation; None for text.
        tensors: The keyword arguments of the model's forward.
    """

    input_ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    grid: tuple[int, int, int] | None
    patches: NDArray[np.uint8] | None
    tensors: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Continuation:
    """What the reference goes on with, greedily and past any end of turn.

    Attributes:
        tokens: int64, shape (n,).
        logits: float32, shape (n, V): row i chose token i; V counts the rows of the head that tokens use.
    """

    tokens: NDArray[np.int64]
    logits: NDArray[np.float32]


class Reference:
    """A checkpoint in transformers, on the CPU.

    The model takes 4 bytes a parameter in float32: 3.5 GB for 0.8B and 9 GB for 2B; half of it in bfloat16, whose own
    error of about a hundredth hides the bundle's.

    Args:
        source: A checkpoint's directory.
        dtype: Precision of weights and activations.

    Raises:
        CheckpointError: torch, transformers or optimum is missing, or they cannot load the checkpoint.
    """

    def __init__(self, source: Path, *, dtype: Dtype = "float32") -> None:
        libraries = import_libraries()
        self._torch = libraries.torch
        self._transformers = libraries.transformers
        register()
        if not (source / "config.json").is_file():
            raise CheckpointError(
                f"{source} is not a checkpoint",
                evidence=["it holds no config.json"],
                next_step="Give the directory or the hub id from which the bundle was converted.",
            )
        with _quiet(), _translated(source):
            self.model = libraries.tasks.get_model_from_task(
                TASK,
                source,
                framework="pt",
                torch_dtype=getattr(self._torch, dtype),
                device="cpu",
                library_name="transformers",
                local_files_only=True,
            ).eval()
            self._processor = self._transformers.AutoProcessor.from_pretrained(source, local_files_only=True)
        self.config = self.model.config
        self.vocab_used = len(self._processor.tokenizer)

    def export_config(self, graph: str) -> Any:
        """Return the configuration that Optimum holds for one graph of this model: ``vision``, ``embed``, ``decoder``."""
        constructor = import_libraries().tasks.get_exporter_config_constructor(
            "onnx", self.model, TASK, library_name="transformers", exporter_config_kwargs={"graph": graph}
        )
        return constructor(self.config)

    def text(self, prompt: str) -> Inputs:
        """Prepare a question without pictures."""
        return self._inputs(self._render([], prompt))

    def image(self, rgb: NDArray[np.uint8], prompt: str, *, resize: bool = True) -> Inputs:
        """Prepare a question about one picture.

        Args:
            rgb: shape (H, W, 3).
            prompt: The words.
            resize: False takes the picture's size as it is; both sides are then multiples of 32.
        """
        text = self._render([{"type": "image"}], prompt)
        picture = self._torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))
        return self._inputs(text, images=[picture], images_kwargs={"do_resize": resize})

    def video(
        self,
        frames: NDArray[np.uint8],
        fps: float,
        prompt: str,
        *,
        resize: bool = True,
        outer: bool = False,
    ) -> Inputs:
        """Prepare a question about a clip of equally spaced frames.

        Args:
            frames: shape (n, H, W, 3), n >= 2.
            fps: Frames per second; pair k is stamped with the mean of its two frames' times.
            prompt: The words.
            resize: False takes the frames' size as it is; both sides are then multiples of 32.
            outer: Keep the ``<|vision_start|>`` and ``<|vision_end|>`` that the chat template writes around the whole
                video, as transformers up to 5.23 does. Qwen's own processor and this project leave them out.
        """
        text = self._render([{"type": "video"}], prompt)
        if not outer:
            text = text.replace(_VIDEO, "<|video_pad|>")
        metadata = {
            "total_num_frames": len(frames),
            "fps": fps,
            "frames_indices": list(range(len(frames))),
            "height": frames.shape[1],
            "width": frames.shape[2],
        }
        clip = self._torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))
        options = {
            "do_resize": resize,
            "do_sample_frames": False,
            "video_metadata": [metadata],
            "cap_pixels_per_frame": False,  # its default changed between minor versions
        }
        return self._inputs(text, videos=[clip], videos_kwargs=options)

    def continuation(self, inputs: Inputs, count: int) -> Continuation:
        """Let the model go on greedily for ``count`` tokens with a KV cache; padding rows of the head are never chosen."""
        self._forget()
        rows = self.config.text_config.vocab_size
        settings = self._transformers.GenerationConfig(
            do_sample=False,
            max_new_tokens=count,
            suppress_tokens=list(range(self.vocab_used, rows)) or None,
            eos_token_id=None,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
        self.model.generation_config = settings  # the checkpoint's own would fill in what is None here
        with self._running():
            found = self.model.generate(**inputs.tensors, generation_config=settings)
        logits = np.concatenate([step.float().numpy() for step in found.logits])
        return Continuation(
            found.sequences[0, len(inputs.input_ids) :].numpy(),
            np.ascontiguousarray(logits[:, : self.vocab_used]),
        )

    def logits(self, inputs: Inputs, *, last: int = 0) -> NDArray[np.float32]:
        """Run the whole prompt at once, without a cache; the logits of its ``last`` tokens (0: all), shape (n, V)."""
        self._forget()
        with self._running():
            found = self.model(**inputs.tensors, use_cache=False, logits_to_keep=last).logits
        return np.ascontiguousarray(found[0, :, : self.vocab_used].float().numpy())

    def visual_embeds(self, patches: NDArray[np.uint8], grid: tuple[int, int, int]) -> NDArray[np.float32]:
        """Run the vision tower.

        Args:
            patches: shape (N, P, C), as in `Inputs`.
            grid: Pairs N, rows and columns of patches, P = rows * columns.

        Returns:
            float32, shape (N, P / 4, H).
        """
        torch = self._torch
        pixels = torch.from_numpy(patches.reshape(-1, patches.shape[-1])).to(self.model.dtype) / 127.5 - 1.0
        with self._running():
            found = self.model.model.visual(pixels, grid_thw=torch.tensor([grid])).pooler_output
        return np.asarray(found.float().numpy()).reshape(
            len(patches), -1, self.config.text_config.hidden_size
        )

    def token_embeds(self, input_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Look tokens up: shape (1, T) to (1, T, H)."""
        with self._running():
            found = self.model.get_input_embeddings()(self._torch.from_numpy(input_ids))
        return np.asarray(found.float().numpy())

    def text_logits(self, embeds: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the language part on embeddings (1, T, H) at text positions; the last token's logits, shape (1, V)."""
        torch = self._torch
        with self._running():
            hidden = self.model.model.language_model(
                inputs_embeds=torch.from_numpy(embeds).to(self.model.dtype), use_cache=False
            ).last_hidden_state
            found = self.model.lm_head(hidden[:, -1])
        return np.asarray(found.float().numpy())

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        with self._torch.inference_mode(), _quiet():
            yield

    def _forget(self) -> None:
        """Drop the offset that the last picture's positions left in the model: it would shift a later text's."""
        self.model.model.rope_deltas = None

    def _render(self, pictures: list[dict[str, str]], prompt: str) -> str:
        content = [*pictures, {"type": "text", "text": prompt}]
        return str(
            self._processor.apply_chat_template(
                [{"role": "user", "content": content}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,  # the larger models of the family think unless told not to
            )
        )

    def _inputs(self, text: str, **given: Any) -> Inputs:
        # return_metadata belongs to the processor's own defaults, which videos_kwargs would replace.
        if "videos_kwargs" in given:
            given["videos_kwargs"]["return_metadata"] = True
        with _quiet():
            tensors = dict(self._processor(text=[text], return_tensors="pt", **given))
        tensors.pop("video_metadata", None)
        grids = {
            name: tensors[name]
            for name in ("image_grid_thw", "video_grid_thw")
            if tensors.get(name) is not None
        }
        positions, _ = self.model.model.get_rope_index(
            tensors["input_ids"],
            tensors["mm_token_type_ids"],
            attention_mask=tensors.get("attention_mask"),
            **grids,
        )
        grid = patches = None
        for name, pixels in (("image_grid_thw", "pixel_values"), ("video_grid_thw", "pixel_values_videos")):
            if name in grids:
                pairs, rows, columns = (int(n) for n in grids[name][0])
                grid = (pairs, rows, columns)
                values = (tensors[pixels].double().numpy() + 1.0) * 127.5  # mean and deviation are 0.5
                patches = np.rint(values).astype(np.uint8).reshape(pairs, rows * columns, -1)
        return Inputs(
            input_ids=tensors["input_ids"][0].numpy(),
            positions=positions[:, 0].numpy(),
            grid=grid,
            patches=patches,
            tensors=tensors,
        )


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
    "decoder": {"logits": {}},
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
            found |= {f"key_{layer}": cache, f"value_{layer}": cache}
        else:
            found[f"conv_{layer}"] = (1, text.linear_conv_kernel_dim - 1, 2 * keys + values)
            found[f"recurrent_{layer}"] = (
                1,
                text.linear_num_value_heads,
                text.linear_key_head_dim,
                text.linear_value_head_dim,
            )
    return found


@dataclass(frozen=True, slots=True)
class Libraries:
    """The modules of the extra ``export``."""

    torch: Any
    transformers: Any
    tasks: Any


@functools.cache
def import_libraries() -> Libraries:
    """Import torch, torchvision, transformers and Optimum's TasksManager, together or not at all.

    Raises:
        CheckpointError: One of them is missing or does not import.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchvision warns of image codecs that nobody needs here
            import torch

            _import_torchvision(torch)
            import transformers
            from optimum.exporters.tasks import TasksManager
            from transformers.models.qwen3_5 import modeling_qwen3_5  # noqa: F401 - imports its kernels' checks now
    except (ImportError, RuntimeError) as error:
        raise CheckpointError(
            "the reference cannot run: torch, transformers or optimum is missing",
            evidence=[str(error).splitlines()[0]],
            next_step="Install them: pip install 'edgeclip[export]'",
        ) from error
    return Libraries(torch, transformers, TasksManager)


def _import_torchvision(torch: Any) -> None:
    """Import torchvision, also beside a build of torch for which it was not compiled (a CPU wheel from elsewhere).

    Its compiled operators do not load there, and its import stops at the first one that it describes. The processors
    need none of them, so they are declared without an implementation.
    """
    try:
        import torchvision
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]  # half imported
        for operator in _OPERATORS:
            if not hasattr(torch.ops.torchvision, operator):
                torch.library.define(
                    f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )
        import torchvision  # noqa: F401


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' advice and bars off the terminal: verify draws its own."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


@contextlib.contextmanager
def _translated(source: Path) -> Iterator[None]:
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        # A dozen kinds of error come out of loading (OSError, KeyError, SafetensorError, ...); all mean the same.
        raise CheckpointError(
            f"transformers cannot load {source}",
            evidence=[f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"],
            next_step="Check that the checkpoint is whole and a Qwen3.5 model, then run the command again.",
        ) from error
