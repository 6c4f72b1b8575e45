"""A checkpoint in transformers, loaded through Optimum: what it is fed, and what it answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from edge.errors import CheckpointError
from export.reference.exporter import TASK, register
from export.reference.libraries import import_libraries, quiet

_GRID: Final = (2, 4, 6)  # pairs, rows and columns of patches in a first run of the vision graph
Dtype = Literal["float32", "bfloat16"]


_VIDEO: Final = "<|vision_start|><|video_pad|><|vision_end|>"  # what the chat template writes for a video


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
        with quiet(), _translated(source):
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

    def try_graph(self, graph: str) -> tuple[dict[str, NDArray[Any]], NDArray[np.float32]]:
        """Return the dummy inputs of one graph's export configuration, and what this model makes of them."""
        pairs, rows, columns = _GRID
        feeds: dict[str, NDArray[Any]] = self.export_config(graph).generate_dummy_inputs(
            framework="np", pairs=pairs, rows=rows, columns=columns
        )
        if graph == "vision":
            return feeds, self.visual_embeds(feeds["patches"], _GRID)
        if graph == "embed":
            return feeds, self.token_embeds(feeds["input_ids"])
        return feeds, self.text_logits(feeds["inputs_embeds"])

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
        with self._torch.inference_mode(), quiet():
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
        with quiet():
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
