"""The whole job with transformers on the CPU, for the README's baseline: one clip, one prefill, two answers.

usage: python -m tests.bench.transformers_job VIDEO CHECKPOINT [--seconds 60] [--tokens 150] [--dtype bfloat16]
       [--chunk 2048] [--threads 2]

The same pictures as ours (the grid of `edge.capture`), the checkpoint's own processor and template, the vision tower in
batches of pairs, the clip prefilled once in chunks, its cache copied for each prompt, greedy tokens. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from edge.capture.file import FileClip
from edge.model.preprocess import scale
from edge.records import Size
from export.reference.libraries import import_libraries
from tests.bench.our_job import FPS, PROMPTS, SECONDS

PAIRS = 24  # of one call of the vision tower


def pictures(video: Path, seconds: float) -> Any:
    """Return the pictures of the first seconds at the size that transformers' own rule gives a whole clip, uint8 (n, H, W, 3)."""
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize

    ticks = round(FPS * SECONDS)

    def size_for(source: Size) -> Size:
        height, width = smart_resize(ticks, source.height, source.width, 2, 32, 4096, 25_165_824)
        return Size(height, width)

    with FileClip(
        video, start_s=0, seconds=seconds, fps=FPS, size_for=size_for, resize=scale, scale="exact"
    ) as clip:
        return np.concatenate([pair.frames for pair in clip.pairs()])


class Job:
    """The model, the processor, and one clip as the processor made it."""

    def __init__(self, checkpoint: Path, frames: Any, dtype: str) -> None:
        from transformers import AutoProcessor, Qwen3_5ForConditionalGeneration

        self.model = Qwen3_5ForConditionalGeneration.from_pretrained(checkpoint, dtype=dtype).eval()
        self.processor = AutoProcessor.from_pretrained(checkpoint)
        height, width = frames.shape[1:3]
        self._video = {
            "videos": [frames],
            "video_metadata": [
                {
                    "fps": FPS,
                    "total_num_frames": len(frames),
                    "frames_indices": list(range(len(frames))),
                    "width": width,
                    "height": height,
                    "duration": len(frames) / FPS,
                }
            ],
            "do_sample_frames": False,
            "cap_pixels_per_frame": False,
        }

    def inputs(self, prompt: str) -> Any:
        """Return the processor's tensors for one prompt."""
        content = [{"type": "video"}, {"type": "text", "text": prompt}]
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        return self.processor(text=[text], return_tensors="pt", **self._video)

    def see(self, inputs: Any) -> Any:
        """Return the visual embeddings, (tokens, hidden)."""
        import torch

        pairs, height, width = inputs["video_grid_thw"][0].tolist()
        pixels = inputs["pixel_values_videos"].to(self.model.dtype)
        found = []
        for at in range(0, pairs, PAIRS):
            count = min(PAIRS, pairs - at)
            grid = torch.tensor([[count, height, width]])
            part = pixels[at * height * width : (at + count) * height * width]
            found.append(self.model.model.visual(part, grid_thw=grid).pooler_output)
        return torch.cat(found)

    def embed(self, inputs: Any, visual: Any) -> tuple[Any, Any, int]:
        """Return embeddings, M-RoPE positions and the position that follows."""
        ids = inputs["input_ids"]
        embeds = self.model.model.language_model.embed_tokens(ids)
        embeds[ids == self.model.config.video_token_id] = visual.to(embeds.dtype)
        positions, delta = self.model.model.get_rope_index(
            ids, mm_token_type_ids=inputs["mm_token_type_ids"], video_grid_thw=inputs["video_grid_thw"]
        )
        return embeds, positions, ids.shape[1] + int(delta)

    def prefill(self, embeds: Any, positions: Any, cache: Any, chunk: int) -> Any:
        """Append tokens in chunks; return the last hidden state."""
        for at in range(0, embeds.shape[1], chunk):
            hidden = self.model.model.language_model(
                inputs_embeds=embeds[:, at : at + chunk],
                position_ids=positions[:, :, at : at + chunk],
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
        return hidden[:, -1:]

    def decode(self, hidden: Any, position: int, cache: Any, tokens: int) -> None:
        """Write so many greedy tokens, end ids included."""
        import torch

        language = self.model.model.language_model
        for _ in range(tokens - 1):
            token = self.model.lm_head(hidden)[0, -1].argmax()
            hidden = language(
                inputs_embeds=language.embed_tokens(token[None, None]),
                position_ids=torch.full((3, 1, 1), position),
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
            position += 1
        self.model.lm_head(hidden)


def main() -> None:
    """Run the job and print its figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("video", type=Path)
    options.add_argument("checkpoint", type=Path)
    options.add_argument("--seconds", type=float, default=SECONDS)
    options.add_argument("--tokens", type=int, default=150)
    options.add_argument("--dtype", default="bfloat16")
    options.add_argument("--chunk", type=int, default=2048)
    options.add_argument("--threads", type=int, default=2)
    given = options.parse_args()

    import_libraries()
    import torch
    from transformers import DynamicCache

    torch.set_num_threads(given.threads)
    clock, begun = time.perf_counter, time.perf_counter()
    frames = pictures(given.video, given.seconds)
    video_s = clock() - begun
    job = Job(given.checkpoint, frames, given.dtype)
    seconds = {"video": video_s, "load": clock() - begun - video_s}
    with torch.inference_mode():
        mark = clock()
        prompts = [job.inputs(prompt) for prompt in PROMPTS]
        seconds["preprocess"] = clock() - mark
        mark = clock()
        visual = job.see(prompts[0])
        seconds["vision"] = clock() - mark
        ids = [inputs["input_ids"][0].tolist() for inputs in prompts]
        # What both prompts begin with: the clip.
        shared = next(at for at, (one, other) in enumerate(zip(*ids, strict=False)) if one != other)
        cache = DynamicCache(config=job.model.model.language_model.config)
        seconds["prefill"] = seconds["text"] = 0.0
        for number, inputs in enumerate(prompts):
            mark = clock()
            embeds, positions, after = job.embed(inputs, visual)
            if number == 0:
                job.prefill(embeds[:, :shared], positions[:, :, :shared], cache, given.chunk)
            own = copy.deepcopy(cache)
            hidden = job.prefill(embeds[:, shared:], positions[:, :, shared:], own, given.chunk)
            seconds["prefill"] += clock() - mark
            mark = clock()
            job.decode(hidden, after, own, given.tokens)
            seconds["text"] += clock() - mark
    seconds["total"] = clock() - begun
    print(  # noqa: T201 - the result
        json.dumps(
            {
                "peer": "transformers",
                "dtype": given.dtype,
                "frames": len(frames),
                "tokens_in": int(prompts[0]["input_ids"].shape[1]),
                "tokens_out": given.tokens * len(prompts),
                "seconds": {name: round(value, 1) for name, value in seconds.items()},
                "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            }
        )
    )


if __name__ == "__main__":
    main()
