"""Ours beside llama.cpp and transformers on the same dimensions and the same clip, in turn, as ratios.

usage: python -m tests.bench.peers --bundle BUNDLE --llama BIN_DIR --gguf Q4_0.gguf Q8_0.gguf
       [--rounds 5] [--depths 0 8192] [--job --video CLIP --llama-video CLIP_480 --mmproj FILE --checkpoint DIR]

Prefill of 512 tokens at each depth: our prefill graph, then `llama-bench` with each file, round by round (A B C A B C ...).
With --job also the whole job: `edge summarize`, `llama-mtmd-cli --video` (bench README: how its clip was made), and
`tests.bench.transformers_job`. Ratios are medians of ratios within a round. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from edge.model.bundle import open_bundle
from tests.bench.roofline import decoder_feeds

TOKENS: Final = 512
PROMPT: Final = (
    "Summarise what happened in this video in three sentences, then list the events with their times."
)


def ours_tok_s(bundle_path: Path, depth: int, threads: int) -> float:
    """Return tokens a second of our prefill graph, the better of two runs after one to warm up."""
    import onnxruntime as ort

    from edge.model.sessions import session_options

    bundle = open_bundle(bundle_path)
    graph = bundle.manifest.graphs.prefill or bundle.manifest.graphs.decoder
    options = session_options(threads)
    session = ort.InferenceSession(str(bundle.path / graph.file), options, providers=["CPUExecutionProvider"])
    run = decoder_feeds(bundle, TOKENS, depth)(session)
    run()
    found = []
    for _ in range(2):
        began = time.perf_counter()
        run()
        found.append(TOKENS / (time.perf_counter() - began))
    return max(found)


def llama_tok_s(binaries: Path, model: Path, depth: int, threads: int) -> float:
    """Return what llama-bench says of one file; it warms up by itself."""
    options = ["-p", str(TOKENS), "-n", "0", "-d", str(depth), "-r", "2", "-ngl", "0", "-o", "json"]
    command = [str(binaries / "llama-bench"), "-m", str(model), "-t", str(threads), *options]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(max(json.loads(said)[0]["samples_ts"]))


def timed(command: list[str]) -> float:
    """Return wall seconds of a command that must succeed."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def job_commands(given: argparse.Namespace) -> dict[str, list[str]]:
    """Return the whole job as each of them does it."""
    python = sys.executable
    commands = {
        "ours": [
            python,
            "-m",
            "edge",
            "summarize",
            str(given.video),
            "--bundle",
            str(given.bundle),
            "--json",
        ],
        "llama.cpp": [
            *[str(given.llama / "llama-mtmd-cli"), "-m", str(given.gguf[0]), "--mmproj", str(given.mmproj)],
            *["--video", str(given.llama_video), "--video-fps", "8", "--chat-template", "chatml"],
            *(["--video-ffmpeg-dir", str(given.ffmpeg)] if given.ffmpeg else []),
            *[
                "-t",
                str(given.threads),
                "-c",
                "16384",
                "--temp",
                "0",
                "--ignore-eos",
                "-n",
                "150",
                "-p",
                PROMPT,
            ],
        ],
    }
    if given.checkpoint:
        job = ["-m", "tests.bench.transformers_job", str(given.video), str(given.checkpoint)]
        commands["transformers"] = [python, *job, "--threads", str(given.threads)]
    return commands


def main() -> None:
    """Run in turn and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument(
        "--llama", type=Path, required=True, help="directory of llama-bench and llama-mtmd-cli"
    )
    parser.add_argument("--gguf", type=Path, nargs="+", required=True, help="the job uses the first")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--depths", type=int, nargs="+", default=[0, 8192])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--job", action="store_true", help="the whole job, too: minutes a round")
    parser.add_argument("--video", type=Path)
    parser.add_argument("--llama-video", type=Path)
    parser.add_argument("--ffmpeg", type=Path, help="directory of the ffmpeg that llama.cpp is to use")
    parser.add_argument("--mmproj", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    given = parser.parse_args()
    if given.job and not (given.video and given.llama_video and given.mmproj):
        parser.error("--job needs --video, --llama-video and --mmproj")
    result: dict[str, Any] = {"rounds": given.rounds, "bundle": str(given.bundle)}
    for depth in given.depths:
        rows: dict[str, list[float]] = {}
        for _ in range(given.rounds):
            rows.setdefault("ours", []).append(ours_tok_s(given.bundle, depth, given.threads))
            for model in given.gguf:
                found = llama_tok_s(given.llama, model, depth, given.threads)
                rows.setdefault(model.stem, []).append(found)
        theirs = [max(values) for values in zip(*(rows[model.stem] for model in given.gguf), strict=True)]
        ratios = [one / other for one, other in zip(rows["ours"], theirs, strict=True)]
        result[f"prefill@{depth}"] = {
            **{f"{name}_tok_s": round(statistics.median(values), 1) for name, values in rows.items()},
            "ratio": round(statistics.median(ratios), 2),
            "ratios": [round(ratio, 2) for ratio in ratios],
        }
        sys.stdout.write(f"prefill {TOKENS} at {depth}: {result[f'prefill@{depth}']}\n")
    if given.job:
        commands = job_commands(given)
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(given.rounds):
            for name, command in commands.items():
                seconds[name].append(timed(command))
        result["job"] = {f"{name}_s": round(statistics.median(values), 1) for name, values in seconds.items()}
        for name in commands.keys() - {"ours"}:
            pairs = zip(seconds[name], seconds["ours"], strict=True)
            result["job"][f"ratio_{name}"] = round(statistics.median(one / ours for one, ours in pairs), 2)
        sys.stdout.write(f"whole job: {result['job']}\n")
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
