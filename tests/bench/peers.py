"""Ours beside llama.cpp and transformers on the same dimensions and the same clip, in turn, as ratios.

usage: python -m tests.bench.peers --bundle BUNDLE [--llama BIN_DIR --gguf Q4_0.gguf Q8_0.gguf] [--rounds 5] [--threads 2]
       [--depths 0 8192] [--decode-depths 4096]
       [--job --video CLIP_480 [--mmproj FILE] [--ffmpeg DIR] [--checkpoint DIR] [--seconds 60] [--tokens 150]]

Prefill of 512 tokens at each depth: our graph for prefill, then `llama-bench` with each file, round by round (A B C A B C ...).
Decode of single tokens likewise, beside the first file. With --job also the whole job: `tests.bench.our_job`, `llama-mtmd-cli` as
a chat, and `tests.bench.transformers_job`, all of one file (the bench README says how it was made), with two answers each. llama.cpp
stays out without --llama, transformers without --checkpoint. Ratios are medians of ratios within a round. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge.model.bundle import Bundle, open_bundle
from edge.model.decoder import Decoder
from tests.bench.our_job import PROMPTS
from tests.bench.roofline import decoder_feeds

TOKENS: Final = 512
STEPS: Final = 32  # single tokens of one measurement


def ours_tok_s(bundle: Bundle, tokens: int, depth: int, threads: int) -> float:
    """Return tokens a second of ours, many at once or one by one; the better of two turns after one to warm up."""
    run = _prefill(bundle, tokens, depth, threads) if tokens > 1 else _steps(bundle, depth, threads)
    run()
    found = []
    for _ in range(2):
        began = time.perf_counter()
        count = run()
        found.append(count / (time.perf_counter() - began))
    return max(found)


def _prefill(bundle: Bundle, tokens: int, depth: int, threads: int) -> Callable[[], int]:
    import onnxruntime as ort

    from edge.model.sessions import session_options

    graph = bundle.manifest.graphs.prefill or bundle.manifest.graphs.decoder
    session = ort.InferenceSession(
        str(bundle.path / graph.file), session_options(threads), providers=["CPUExecutionProvider"]
    )
    run = decoder_feeds(bundle, tokens, depth)(session)

    def once() -> int:
        run()
        return tokens

    return once


def _steps(bundle: Bundle, depth: int, threads: int) -> Callable[[], int]:
    """Return what decodes as the service does: the embedding, the layers, the logits of all words."""
    arena = Decoder(bundle, threads=threads).arena(depth + STEPS)
    arena.pad(depth)
    mark = arena.mark()

    def once() -> int:
        arena.rewind(mark)
        for token in range(STEPS):
            arena.step(token)
        return STEPS

    return once


def llama_tok_s(binaries: Path, model: Path, tokens: int, depth: int, threads: int) -> float:
    """Return what llama-bench says of one file, of prefill or of single tokens; it warms up by itself."""
    what = ["-p", str(tokens), "-n", "0"] if tokens > 1 else ["-p", "0", "-n", str(STEPS)]
    command = [str(binaries / "llama-bench"), "-m", str(model), "-t", str(threads), *what, "-d", str(depth)]
    said = subprocess.run(
        [*command, "-r", "2", "-ngl", "0", "-o", "json"], check=True, capture_output=True, text=True
    ).stdout
    return float(max(json.loads(said)[0]["samples_ts"]))


@dataclass(frozen=True, slots=True)
class Job:
    """The whole job as one of them does it: a command, and what is typed into it."""

    command: list[str]
    typed: str = ""


def jobs(given: argparse.Namespace) -> dict[str, Job]:
    """Return the whole job as each of them does it."""
    size = ["--seconds", str(given.seconds), "--tokens", str(given.tokens), "--threads", str(given.threads)]
    python = [sys.executable, "-m"]
    found = {"ours": Job([*python, "tests.bench.our_job", str(given.video), str(given.bundle), *size])}
    if given.llama:
        found["llama.cpp"] = llama_job(given)
    if given.checkpoint:
        job = ["tests.bench.transformers_job", str(given.video), str(given.checkpoint)]
        found["transformers"] = Job([*python, *job, *size])
    return found


def llama_job(given: argparse.Namespace) -> Job:
    """Return the whole job as llama.cpp does it.

    The first question goes with the video; the second one stands behind the first answer, where ours go back to the clip.
    """
    llama = [str(given.llama / "llama-mtmd-cli"), "-m", str(given.gguf[0]), "--mmproj", str(given.mmproj)]
    llama += ["--video-fps", "8", "--chat-template", "chatml"]
    llama += ["--video-ffmpeg-dir", str(given.ffmpeg)] if given.ffmpeg else []
    llama += ["-t", str(given.threads), "-c", "16384", "--temp", "0", "--ignore-eos", "-n", str(given.tokens)]
    return Job(llama, "\n".join((f"/video {given.video}", *PROMPTS, "/exit", "")))


def timed(job: Job) -> dict[str, Any]:
    """Do a job, which must succeed; return its wall seconds, its peak memory, and what it says of its own stages."""
    with tempfile.TemporaryFile("w+", errors="replace") as log, tempfile.TemporaryFile("w+") as keys:
        keys.write(job.typed)
        keys.seek(0)
        began = time.perf_counter()
        process = subprocess.Popen(job.command, stdin=keys, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        log.seek(0)
        said = log.read()
    if process.returncode:
        sys.stderr.write(said[-2000:])
        sys.exit(f"{job.command[0]} failed with {process.returncode}")
    found: dict[str, Any] = {"seconds": round(seconds, 1), "peak_mib": round(usage.ru_maxrss / 1024)}
    encoded = [int(ms) for ms in re.findall(r"batch encoding done in (\d+) ms", said)]
    if encoded:
        found["stages"] = {"seconds": {"vision": round(sum(encoded) / 1e3, 1)}, "pairs": len(encoded)}
    for line in said.splitlines():
        if line.startswith('{"peer"'):
            found["stages"] = json.loads(line)
    return found


def compare(given: argparse.Namespace, bundle: Bundle, tokens: int, depth: int) -> dict[str, Any]:
    """Measure one number of tokens at one depth, in turn."""
    rivals = given.gguf if tokens > 1 else given.gguf[:1]
    rows: dict[str, list[float]] = {}
    for _ in range(given.rounds):
        rows.setdefault("ours", []).append(ours_tok_s(bundle, tokens, depth, given.threads))
        for model in rivals:
            found = llama_tok_s(given.llama, model, tokens, depth, given.threads)
            rows.setdefault(model.stem, []).append(found)
    theirs = [max(values) for values in zip(*(rows[model.stem] for model in rivals), strict=True)]
    ratios = [one / other for one, other in zip(rows["ours"], theirs, strict=True)]
    return {
        **{f"{name}_tok_s": round(statistics.median(values), 1) for name, values in rows.items()},
        "ratio": round(statistics.median(ratios), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
    }


def whole_job(given: argparse.Namespace) -> dict[str, Any]:
    """Run the whole job in turn; a line for every run on standard error."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for _ in range(given.rounds):
        for name, job in jobs(given).items():
            runs.setdefault(name, []).append(timed(job))
            sys.stderr.write(f"{name}: {json.dumps(runs[name][-1])}\n")
    result: dict[str, Any] = {}
    for name, found in runs.items():
        result[f"{name}_s"] = statistics.median(run["seconds"] for run in found)
        result[f"{name}_peak_mib"] = max(run["peak_mib"] for run in found)
        if name != "ours":
            result |= {f"{what}_{name}": ratio for what, ratio in _ratios(found, runs["ours"]).items()}
    return result


def _ratios(found: list[dict[str, Any]], ours: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how many times as long one of them took as ours in the same round, in all and to see."""
    pairs = list(zip(found, ours, strict=True))
    whole = [one["seconds"] / other["seconds"] for one, other in pairs]
    seeing = [[run["stages"]["seconds"]["vision"] for run in pair] for pair in pairs]
    return {
        "ratio": round(statistics.median(whole), 2),
        "ratios": [round(each, 2) for each in whole],
        "vision_ratio": round(statistics.median(one / other for one, other in seeing), 2),
    }


def main() -> None:
    """Run in turn and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--llama", type=Path, help="directory of llama-bench and llama-mtmd-cli")
    parser.add_argument("--gguf", type=Path, nargs="+", help="decode and the job use the first")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--depths", type=int, nargs="*", default=[0, 8192])
    parser.add_argument("--decode-depths", type=int, nargs="*", default=[4096])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--job", action="store_true", help="the whole job, too: minutes a round")
    parser.add_argument("--video", type=Path, help="480 pictures at the size that the models see")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the video; llama.cpp takes all of it")
    parser.add_argument("--tokens", type=int, default=150, help="of each answer")
    parser.add_argument("--ffmpeg", type=Path, help="directory of the ffmpeg that llama.cpp is to use")
    parser.add_argument("--mmproj", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    given = parser.parse_args()
    if given.llama and not given.gguf:
        parser.error("--llama needs --gguf")
    if (given.depths or given.decode_depths) and not given.llama:
        parser.error(
            "prefill and decode are measured beside llama.cpp: --llama, or --depths and --decode-depths without a number"
        )
    if given.job and not (given.video and (given.mmproj or not given.llama)):
        parser.error("--job needs --video and, beside llama.cpp, --mmproj")
    if given.job and not (given.llama or given.checkpoint):
        parser.error("--job is done beside llama.cpp, transformers or both: --llama, --checkpoint")
    bundle = open_bundle(given.bundle)
    result: dict[str, Any] = {"rounds": given.rounds, "bundle": str(given.bundle)}
    result["recipe"] = bundle.manifest.recipe.name
    for name, tokens, depths in (("prefill", TOKENS, given.depths), ("decode", 1, given.decode_depths)):
        for depth in depths:
            result[f"{name}@{depth}"] = compare(given, bundle, tokens, depth)
            sys.stdout.write(f"{name} of {tokens} at {depth}: {result[f'{name}@{depth}']}\n")
            sys.stdout.flush()
    if given.job:
        result["job"] = whole_job(given)
        sys.stdout.write(f"whole job: {result['job']}\n")
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
