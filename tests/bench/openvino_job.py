"""The whole job with OpenVINO, and its rates: one clip, one prefill, two answers, from the models that optimum-intel exports.

usage: python -m tests.bench.openvino_job DIR [--video VIDEO] [--seconds 60] [--tokens 150] [--threads 2]
       [--set INFERENCE_PRECISION_HINT=f32]
       [--depths 0 8192] [--decode-depths 4096] [--pairs 1] [--chunk 512] [--rounds 3] [--profile]

`pip install openvino==2026.4.1 openvino-genai==2026.4.1` (its tokenizer); the bench README says how DIR is exported. With
`--video` the whole job as `tests.bench.transformers_job` does it: the same pictures, text and positions, greedy tokens, end ids
included. Its second question comes behind the first answer, as in a chat, so nothing is copied. Without `--video` tokens a second:
512 at once, and one by one. openvino-genai's own VLMPipeline is not used, because on a CPU it lets all pairs of a clip attend to each
other under one mask: (46,080, 46,080) float32 for 240 pairs. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge.capture.file import FileClip
from edge.model.manifest import Pixels, Vision
from edge.model.preprocess import scale, video_size
from tests.bench.our_job import FPS, PROMPTS, SECONDS

TOKENS: Final = 512  # of one prefill
STEPS: Final = 32  # single tokens of one measurement
SIDE: Final = 48  # of the table of learnt positions
BASE: Final = (
    10_000.0  # of the tower's rotary positions: head size 64, 16 angles for the row, 16 for the column
)


class Language:
    """The language model with its state, asked for the logits of the last token only, as openvino-genai does."""

    def __init__(self, directory: Path, *, config: dict[str, str], profile: bool = False) -> None:
        core = _core()
        import openvino as ov
        from openvino import opset13 as ops

        model = core.read_model(directory / "openvino_language_model.xml")
        head = model.output("logits").get_node().input_value(0).get_node()
        every = head.input_value(0)
        last = ops.slice(every, np.array([-1]), np.array([2**31 - 1]), np.array([1]), np.array([1]))
        head.input(0).replace_source_output(last.output(0))
        model.validate_nodes_and_infer_types()
        self._shapes = {one.info.variable_id: one.info.data_shape for one in model.get_variables()}
        self._compiled = core.compile_model(model, "CPU", {**config, "PERF_COUNT": profile})
        self._request = self._compiled.create_infer_request()
        self._tensor = ov.Tensor
        self.at = 0  # tokens seen

    def run(self, embeds: NDArray[np.float32], positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Append tokens, (1, n, hidden) at positions (3, 1, n); return the last one's logits, (vocabulary,)."""
        count = embeds.shape[1]
        text = np.arange(self.at, self.at + count, dtype=np.int64)[None, None]
        self.at += count
        self._request.infer(
            {
                "inputs_embeds": embeds,
                "attention_mask": np.ones((1, self.at), np.int64),
                "position_ids": np.concatenate([text, positions]),
                "beam_idx": np.zeros(1, np.int32),
            }
        )
        logits: NDArray[np.float32] = self._request.get_tensor("logits").data[0, -1]
        return logits

    def pad(self, depth: int) -> None:
        """Forget everything, then put noise into the cache as if `depth` tokens had been seen."""
        self._request.reset_state()
        self.at = depth
        if not depth:
            return
        noise = np.random.default_rng(0)
        for state in self._request.query_state():
            if ".key." in state.name or ".value." in state.name:
                heads, size = (self._shapes[state.name][axis].get_length() for axis in (1, 3))
                rows = noise.standard_normal((1, heads, depth, size), np.float32)
                state.state = self._tensor(rows)

    def profile(self) -> list[tuple[str, float]]:
        """Return milliseconds by kernel, the mean of all runs, longest first."""
        found: Counter[str] = Counter()
        for node in self._request.get_profiling_info():
            found[f"{node.node_type} {node.exec_type}"] += node.real_time.total_seconds() * 1e3
        return [(name, round(ms, 1)) for name, ms in found.most_common(14)]


class Tower:
    """The vision tower: patches, interpolated positions, blocks; some pairs at a time."""

    def __init__(self, directory: Path, *, config: dict[str, str]) -> None:
        core = _core()
        names = ("", "_pos", "_merger")
        self._patches, self._table, self._blocks = (
            core.compile_model(directory / f"openvino_vision_embeddings{name}_model.xml", "CPU", config)
            for name in names
        )

    def see(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the embeddings of some pairs, uint8 (2 n, H, W, 3), as (n * tokens, hidden)."""
        pairs, height, width = len(frames) // 2, frames.shape[1] // 16, frames.shape[2] // 16
        pixels = frames.astype(np.float32) / 127.5 - 1
        # (n, 2, h/2, 2, 16, w/2, 2, 16, 3) to (n, h/2, w/2, 2, 2, 3, 2, 16, 16): cells of four patches, as transformers lays them out
        split = pixels.reshape(pairs, 2, height // 2, 2, 16, width // 2, 2, 16, 3)
        patches = split.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(pairs * height * width, -1)
        hidden = self._patches(patches)[0].reshape(len(patches), -1)
        hidden = hidden + np.tile(self._positions(height, width), (pairs, 1))
        each = height * width
        mask = np.full((1, pairs * each, pairs * each), -np.inf, np.float32)
        for at in range(0, pairs * each, each):
            mask[:, at : at + each, at : at + each] = 0
        angles = np.tile(_angles(height, width), (pairs, 1))
        return np.asarray(self._blocks([hidden, mask, angles])[0])

    def _positions(self, height: int, width: int) -> NDArray[np.float32]:
        """Return the learnt positions of one pair's patches, bilinear in a table of 48 x 48."""
        rows, columns = np.linspace(0, SIDE - 1, height), np.linspace(0, SIDE - 1, width)
        index, share = [], []
        for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
            row = np.minimum(rows.astype(np.int64) + down, SIDE - 1)
            column = np.minimum(columns.astype(np.int64) + right, SIDE - 1)
            index.append((row[:, None] * SIDE + column).reshape(-1))
            share.append(np.outer(_share(rows, down), _share(columns, right)).reshape(-1, 1))
        found = (self._table(np.stack(index))[0] * np.stack(share)).sum(0)
        return _cells(found.astype(np.float32), height, width)


def _share(at: NDArray[np.float64], up: int) -> NDArray[np.float64]:
    return at % 1 if up else 1 - at % 1


def _cells(rows: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Return patches (height * width, n) in the order of cells of 2 x 2."""
    cells = rows.reshape(height // 2, 2, width // 2, 2, -1).swapaxes(1, 2)
    return np.ascontiguousarray(cells.reshape(height * width, -1))


def _angles(height: int, width: int) -> NDArray[np.float32]:
    """Return the rotary angles of one pair's patches: 16 by row, 16 by column."""
    speeds = BASE ** -(np.arange(16) / 16)
    row, column = np.mgrid[:height, :width].reshape(2, -1, 1) * speeds
    return _cells(np.concatenate([row, column], 1).astype(np.float32), height, width)


def _core() -> Any:
    try:
        import openvino as ov
    except ImportError:
        sys.exit("this needs OpenVINO: pip install openvino==2026.4.1 openvino-genai==2026.4.1")
    return ov.Core()


class Words:
    """Tokens of texts, and the embeddings of tokens."""

    def __init__(self, directory: Path, *, config: dict[str, str]) -> None:
        core = _core()
        from openvino_genai import Tokenizer

        self._tokenizer = Tokenizer(str(directory))
        self._embed = core.compile_model(directory / "openvino_text_embeddings_model.xml", "CPU", config)

    def tokens(self, text: str) -> NDArray[np.int64]:
        """Return a text's tokens, (n,)."""
        return np.array(self._tokenizer.encode(text, add_special_tokens=False).input_ids.data[0], np.int64)

    def embed(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the tokens' embeddings, (1, n, hidden)."""
        return np.array(self._embed(tokens[None])[0])


def clip_text(pairs: int, cells: int) -> str:
    """Return what the template makes of a clip, up to the question."""
    seconds = ((2 * pair + 0.5) / FPS for pair in range(pairs))
    one = "<|vision_start|>" + "<|video_pad|>" * cells + "<|vision_end|>"
    return "<|im_start|>user\n" + "".join(f"<{at:.1f} seconds>{one}" for at in seconds)


def positions_after(
    tokens: NDArray[np.int64], pad: int, rows: int, columns: int
) -> tuple[NDArray[np.int64], int]:
    """Return M-RoPE positions, (3, 1, n), of text with pictures of rows x columns cells in it, and the position behind."""
    found, at, index = np.empty((3, len(tokens)), np.int64), 0, 0
    cell = np.stack([np.zeros(rows * columns, np.int64), *np.mgrid[:rows, :columns].reshape(2, -1)])
    while index < len(tokens):
        count = rows * columns if tokens[index] == pad else 1
        found[:, index : index + count] = at + (cell if count > 1 else 0)
        at, index = at + (max(rows, columns) if count > 1 else 1), index + count
    return found[:, None], at


def job(given: argparse.Namespace, config: dict[str, str]) -> dict[str, Any]:
    """Do the whole job; return its figures."""
    clock, begun = time.perf_counter, time.perf_counter()
    ticks = round(FPS * SECONDS)
    limits = Pixels(minimum=4096, maximum=25_165_824)
    vision = Vision(
        patch_size=16,
        temporal_patch_size=2,
        merge_size=2,
        channels=3,
        positions=SIDE,
        head_dim=64,
        rope_theta=BASE,
    )
    with FileClip(
        given.video,
        start_s=0,
        seconds=given.seconds,
        fps=FPS,
        size_for=lambda source: video_size(source, ticks, limits, vision),
        resize=scale,
        scale="exact",
    ) as clip:
        frames = np.concatenate([pair.frames for pair in clip.pairs()])
    seconds = {"video": clock() - begun}
    mark = clock()
    tower = Tower(given.directory, config=config)
    words = Words(given.directory, config=config)
    language = Language(given.directory, config=config)
    seconds["load"] = clock() - mark
    mark, step = clock(), 2 * given.pairs
    visual = np.concatenate([tower.see(frames[at : at + step]) for at in range(0, len(frames), step)])
    seconds["vision"] = clock() - mark
    seconds["prefill"] = seconds["text"] = 0.0
    rows, columns = frames.shape[1] // 32, frames.shape[2] // 32
    pad, after, tokens_in = int(words.tokens("<|video_pad|>")[0]), 0, 0
    for number, prompt in enumerate(PROMPTS):
        mark = clock()
        before = "<|im_end|>\n<|im_start|>user\n" if number else clip_text(len(frames) // 2, rows * columns)
        tail = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
        tokens = words.tokens(before + prompt + tail)
        tokens_in += len(tokens)
        embeds = words.embed(tokens)
        if not number:
            embeds[0, tokens == pad] = visual
        places, behind = positions_after(tokens, pad, rows, columns)
        places += after
        for at in range(0, len(tokens), given.chunk):
            logits = language.run(embeds[:, at : at + given.chunk], places[:, :, at : at + given.chunk])
        after += behind
        seconds["prefill"] += clock() - mark
        mark = clock()
        for _ in range(given.tokens - 1):
            best = np.array([logits.argmax()])
            logits = language.run(words.embed(best), np.full((3, 1, 1), after))
            after += 1
        seconds["text"] += clock() - mark
    seconds["total"] = clock() - begun
    return {
        "frames": len(frames),
        "tokens_in": tokens_in,
        "tokens_out": given.tokens * len(PROMPTS),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }


def rates(given: argparse.Namespace, config: dict[str, str]) -> dict[str, Any]:
    """Return tokens a second, the median of rounds after one to warm up; with --profile also the kernels' milliseconds."""
    words = Words(given.directory, config=config)
    found: dict[str, Any] = {}
    for name, count, steps, depths in (
        ("prefill", TOKENS, 1, given.depths),
        ("decode", 1, STEPS, given.decode_depths),
    ):
        embeds = words.embed(np.arange(count) + 1000)
        for depth in depths:
            # A new one each time: its profile is the mean of all its runs.
            language = Language(given.directory, config=config, profile=given.profile)
            taken = []
            for _ in range(given.rounds + 1):
                language.pad(depth)
                began = time.perf_counter()
                for step in range(steps):
                    if steps > 1:
                        embeds = words.embed(np.array([step]))
                    places = np.broadcast_to(np.arange(count) + language.at, (3, 1, count))
                    language.run(embeds, places)
                taken.append(time.perf_counter() - began)
            found[f"{name}@{depth}_tok_s"] = round(count * steps / statistics.median(taken[1:]), 1)
            if given.profile:
                found[f"{name}@{depth}_ms"] = language.profile()
    return found


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("directory", type=Path)
    options.add_argument("--video", type=Path)
    options.add_argument("--seconds", type=float, default=SECONDS)
    options.add_argument("--tokens", type=int, default=150)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--set", nargs="*", default=[], help="OpenVINO's properties, NAME=VALUE")
    options.add_argument("--depths", type=int, nargs="*", default=[0, 8192])
    options.add_argument("--decode-depths", type=int, nargs="*", default=[4096])
    options.add_argument("--pairs", type=int, default=1, help="of one call of the vision tower")
    options.add_argument("--chunk", type=int, default=TOKENS, help="tokens of one prefill")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--profile", action="store_true")
    given = options.parse_args()
    config = {"INFERENCE_NUM_THREADS": str(given.threads), "PERFORMANCE_HINT": "LATENCY"}
    config |= dict(one.split("=", 1) for one in given.set)
    result = {"peer": "openvino", "config": config, **(job if given.video else rates)(given, config)}
    result["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
